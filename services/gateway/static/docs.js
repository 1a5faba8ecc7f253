// Draws /openapi.json and /asyncapi.json. Whatever they say reaches the page by textContent only.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const code = (text) => element("code", { textContent: text });
const nameOf = (reference) => reference.split("/").pop();
const schemaLink = (name) => element("a", { href: `#schema-${name}`, textContent: name });

// What a schema lets pass, in a few words and links.
function kind(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["anything"];
  if (schema.$ref) return [schemaLink(nameOf(schema.$ref))];
  const branches = schema.anyOf;
  if (branches && branches.some((branch) => branch.type || branch.$ref)) {
    return branches.flatMap((branch, at) => (at ? [" or ", ...kind(branch)] : kind(branch)));
  }
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(", ")];
  if (schema.type === "array") return ["list of ", ...kind(schema.items)];
  if (schema.additionalProperties) return ["object of ", ...kind(schema.additionalProperties)];
  return [schema.type ?? "anything"];
}

const WORDS = {
  minimum: "at least", exclusiveMinimum: "more than", maximum: "at most", minLength: "shortest", maxLength: "longest",
  pattern: "matches", format: "format", default: "default",
};

function limits(schema) {
  const parts = [schema, ...(schema.anyOf ?? [])];
  return parts.flatMap((part) => Object.entries(WORDS)
    .filter(([key]) => part[key] !== undefined && part[key] !== null)
    .map(([key, word]) => `${word} ${typeof part[key] === "object" ? JSON.stringify(part[key]) : part[key]}`)).join("; ");
}

// The keyboard reaches, and so scrolls, what is wider than the page; at other widths it need not stop there.
const widths = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

function scrolling(name, label, properties, ...children) {
  const made = element(name, { ...properties, role: "region", ariaLabel: label }, ...children);
  widths.observe(made);
  return made;
}

function table(label, rows) {
  const body = element("tbody", {}, ...rows.map(([name, is, text]) => element("tr", {},
    element("th", { scope: "row" }, ...name), element("td", {}, ...is), element("td", {}, ...text))));
  return scrolling("div", label, { className: "scroll" }, element("table", {}, body));
}

function parameters(label, list) {
  return table(label, list.map((one) => [
    [code(one.name)],
    [`${one.in}${one.required ? ", required" : ""}`],
    [...kind(one.schema), " ", element("span", { className: "note", textContent: limits(one.schema) }),
      element("p", { textContent: one.description ?? "" })],
  ]));
}

const contents = (content) => Object.entries(content ?? {}).flatMap(([type, { schema, itemSchema }], at) => [
  at ? element("br") : null, code(type), " ", ...(schema ? kind(schema) : []),
  ...(itemSchema ? [" of ", ...kind(itemSchema)] : [])]).filter((one) => one !== null);

function operation(path, method, shared, one) {
  const all = [...shared, ...(one.parameters ?? [])];
  const body = one.requestBody?.content["application/json"];
  const named = `${method.toUpperCase()} ${path}`;
  return element("article", { id: `operation-${one.operationId}` },
    element("h2", {}, element("span", { className: "method", textContent: method.toUpperCase() }), " ", code(path)),
    element("p", { textContent: one.summary ?? "" }),
    ...(all.length ? [element("h3", { textContent: "Parameters" }), parameters(`Parameters of ${named}`, all)] : []),
    ...(body ? [element("h3", { textContent: "Body" }), element("p", {}, ...kind(body.schema)),
      scrolling("pre", `Example of ${named}`, { textContent: JSON.stringify(body.example, null, 2) })] : []),
    element("h3", { textContent: "Answers" }),
    table(`Answers of ${named}`, Object.entries(one.responses).map(([status, answer]) => [
      [code(status)], [answer.description], contents(answer.content)])));
}

function message(document_, one) {
  const found = document_.components.messages[nameOf(one.messages[0].$ref)];
  const replies = (one.reply?.messages ?? []).map((reply) => nameOf(reply.$ref)).join(", ");
  return element("article", { id: `message-${found.name}` },
    element("h2", {}, code(found.name), " ", ...kind(found.payload)),
    element("p", { textContent: found.summary }),
    replies ? element("p", { className: "note", textContent: `Answered by ${replies}.` }) : null);
}

function schema(name, one) {
  const rows = Object.entries(one.properties ?? {}).map(([field, is]) => [
    [code(field)], [(one.required ?? []).includes(field) ? "required" : ""],
    [...kind(is), " ", element("span", { className: "note", textContent: limits(is) })]]);
  return element("article", { id: `schema-${name}` }, element("h2", { textContent: name }),
    element("p", { textContent: one.description ?? "" }),
    rows.length ? table(`Fields of ${name}`, rows) : element("p", {}, ...kind(one)));
}

function section(main, list, id, title, text, articles) {
  main.append(element("h1", { id, textContent: title }), element("p", { textContent: text }), ...articles);
  list.append(element("li", {}, element("a", { href: `#${id}`, textContent: title })),
    ...articles.slice(0, 12).map((article) => element("li", {}, "– ",
      element("a", { href: `#${article.id}`, textContent: article.querySelector("h2").textContent }))));
}

async function read(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function draw() {
  const status = document.getElementById("status");
  try {
    const [rest, events] = await Promise.all([read("/openapi.json"), read("/asyncapi.json")]);
    const main = document.getElementById("main");
    const list = document.getElementById("contents");
    const operations = Object.entries(rest.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method])
      .map((method) => operation(path, method, item.parameters ?? [], item[method])));
    section(main, list, "rest", `REST ${rest.info.version}`, rest.info.description, operations);
    const received = Object.values(events.operations).filter(({ action }) => action === "receive");
    section(main, list, "websocket", `WebSocket ${events.channels.socket.address}`, events.channels.socket.description,
      received.map((one) => message(events, one)));
    const sent = events.operations.frames.messages.map((one) => message(events, { messages: [one] }));
    section(main, list, "frames", "Frames", "What the gateway sends over the WebSocket.", sent);
    const schemas = { ...events.components.schemas, ...rest.components.schemas };
    section(main, list, "schemas", "Schemas", "The types of all of it.",
      Object.entries(schemas).map(([name, one]) => schema(name, one)));
    status.remove();
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    status.textContent = `The documents cannot be read: ${error.message}`;
  }
}

await draw();
