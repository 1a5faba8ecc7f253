// What the NATS micro protocol's own client finds: `node micro.mjs nats://… [name [id]]` prints one JSON object.
import { connect } from "nats";

const [servers, name, id] = process.argv.slice(2);
const connection = await connect({ servers });
const client = connection.services.client({ maxWait: 3000, strategy: "stall" });
const found = {};
for (const verb of ["ping", "info", "stats"]) {
  found[verb] = [];
  for await (const answer of await client[verb](name, id)) found[verb].push(answer);
}
await connection.close();
console.log(JSON.stringify(found));
