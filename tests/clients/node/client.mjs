// A genuine Firebase client, told by lines of JSON on its input what to do; what it sees it writes as lines of JSON.
//   node client.mjs firebase|appcheck|emulator|admin http://host:port [token]
import readline from 'node:readline';

const [kind, origin, token] = process.argv.slice(2);
const databaseURL = `${origin}/?ns=pinstream`;
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const refused = (error) => say({ refused: String(error?.message ?? error) });

async function modular() {
  const { initializeApp } = await import('firebase/app');
  const db = await import('firebase/database');
  const app = initializeApp({ databaseURL, projectId: 'pinstream', appId: '1:123:web:abc', apiKey: 'none' });
  if (kind === 'appcheck') {
    const { initializeAppCheck, CustomProvider } = await import('firebase/app-check');
    const getToken = async () => ({ token, expireTimeMillis: Date.now() + 3600_000 });
    initializeAppCheck(app, { provider: new CustomProvider({ getToken }) });
  }
  const database = db.getDatabase(app);
  if (kind === 'emulator') {
    const { hostname, port } = new URL(origin);
    db.connectDatabaseEmulator(database, hostname, Number(port), { mockUserToken: token });
  }
  const selected = (path, query) => {
    const parts = query ? [db.orderByKey()] : [];
    for (const [name, value] of Object.entries(query ?? {})) parts.push(db[name](value));
    return db.query(db.ref(database, path), ...parts);
  };
  return {
    listen({ path, query }) {
      db.onChildAdded(selected(path, query), (child) => say({ added: child.key, id: child.val().id }), refused);
      db.onChildRemoved(selected(path, query), (child) => say({ removed: child.key }), refused);
    },
    watch: ({ path }) => db.onValue(db.ref(database, path), (snapshot) => say({ value: snapshot.val() }), refused),
    get: async ({ path, query }) => say({ got: (await db.get(selected(path, query))).val() }),
    push: async ({ value }) => say({ pushed: (await db.push(db.ref(database, 'requests'), value)).key }),
    set: async ({ path, value }) => (await db.set(db.ref(database, path), value), say({ set: path })),
  };
}

async function admin() {
  const { initializeApp } = await import('firebase-admin/app');
  const { getDatabase } = await import('firebase-admin/database');
  const credential = { getAccessToken: async () => ({ access_token: token ?? 'owner', expires_in: 3600 }) };
  const database = getDatabase(initializeApp({ databaseURL, credential }));
  const selected = (path, query) => {
    let ref = database.ref(path);
    if (query) ref = ref.orderByKey();
    for (const [name, value] of Object.entries(query ?? {})) ref = ref[name](value);
    return ref;
  };
  return {
    listen({ path, query }) {
      selected(path, query).on('child_added', (child) => say({ added: child.key, id: child.val().id }), refused);
      selected(path, query).on('child_removed', (child) => say({ removed: child.key }), refused);
    },
    watch: ({ path }) => database.ref(path).on('value', (snapshot) => say({ value: snapshot.val() }), refused),
    get: async ({ path, query }) => say({ got: (await selected(path, query).get()).val() }),
    push: async ({ value }) => say({ pushed: (await database.ref('requests').push(value)).key }),
    set: async ({ path, value }) => (await database.ref(path).set(value), say({ set: path })),
  };
}

const client = await (kind === 'admin' ? admin() : modular());
say({ ready: kind });
const lines = readline.createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const { op, ...given } = JSON.parse(line);
  try {
    await client[op](given);
  } catch (error) {
    refused(error);
  }
});
lines.on('close', () => process.exit(0));
