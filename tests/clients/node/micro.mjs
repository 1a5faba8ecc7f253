// What the NATS micro protocol's own client finds: `node micro.mjs nats://… ping,info,stats [name [id]]` prints one JSON
// object.
import { connect } from "nats";

const [servers, verbs, name, id] = process.argv.slice(2);
const connection = await connect({ servers });
const client = connection.services.client({ maxWait: 5000, strategy: "jitterTimer", jitter: 500 });
const found = {};
for (const verb of verbs.split(",")) {
  found[verb] = [];
  for await (const answer of await client[verb](name, id)) found[verb].push(answer);
}
await connection.close();
console.log(JSON.stringify(found));
