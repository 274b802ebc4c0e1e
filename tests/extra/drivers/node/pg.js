// node-postgres at its usual work. Prints what it got as JSON; argument: the database's URL.
import { once } from "node:events";
import net from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from, to } from "pg-copy-streams";
import Cursor from "pg-cursor";

const connectionString = process.argv[2];

async function connected(work, options = {}) {
  const client = new pg.Client({ connectionString, ...options });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    const { code, message, severity, constraint, position } = error;
    return { code, message, severity, constraint, position };
  }
  return "no error";
}

const rows = async (promise) => (await promise).rows;

const sections = {
  simple: () =>
    connected(async (client) => [
      await rows(client.query("SELECT 1 AS one, NULL AS nothing, 'süß' AS text")),
      (await client.query("SELECT 1 AS a; SELECT 2 AS b")).map((result) => result.rows),
      (await client.query("INSERT INTO items VALUES (1, 'a'), (2, 'b')")).rowCount,
      await rows(client.query("SELECT * FROM items ORDER BY id")),
      (await client.query("")).rowCount,
    ]),

  parameters: () =>
    connected(async (client) => {
      const values = [7, "x' \\ €", null, true, [1, 2], { a: 1 }, Buffer.from([0, 255]), 1.5];
      const sql = `SELECT $1::int8 a, $2::text b, $3::text c, $4::bool d, $5::int[] e, $6::jsonb f,
        encode($7::bytea, 'hex') g, $8::float8 h`;
      const first = await client.query({ text: sql, values, rowMode: "array" });
      return [
        first.rows,
        first.fields.map((field) => [field.name, field.dataTypeID]),
        await rows(client.query("SELECT count(*) FROM items WHERE id = ANY($1)", [[1, 2, 3]])),
      ];
    }),

  prepared: () =>
    connected(async (client) => {
      const pick = { name: "pick", text: "SELECT name FROM items WHERE id = $1" };
      const add = { name: "add", text: "INSERT INTO items VALUES ($1, $2) RETURNING id" };
      const got = [];
      for (let n = 10; n < 20; n += 1) {
        got.push(await rows(client.query({ ...add, values: [n, `prepared ${n}`] })));
        got.push(await rows(client.query({ ...pick, values: [n] })));
      }
      got.push(await failure(client.query({ ...add, values: [10, "twice"] })));
      got.push(await rows(client.query({ ...pick, values: [10] })));
      return got;
    }),

  transaction: () =>
    connected(async (client) => {
      const count = "SELECT count(*)::int FROM items WHERE name = 'transaction'";
      const got = [];
      for (const end of ["ROLLBACK", "COMMIT"]) {
        await client.query("BEGIN");
        await client.query("INSERT INTO items VALUES ($1, 'transaction')", [30]);
        await client.query("SAVEPOINT s");
        got.push(await failure(client.query("SELECT 1/0")));
        got.push(await failure(client.query("SELECT $1::int", [1])));
        await client.query("ROLLBACK TO s");
        got.push(await rows(client.query(count)));
        got.push((await client.query(end)).command);
        got.push(await rows(client.query(count)));
      }
      await client.query("BEGIN READ ONLY");
      got.push(await rows(client.query(count)));
      got.push(await failure(client.query("DELETE FROM items")));
      got.push((await client.query("COMMIT")).command);
      return got;
    }),

  batch: () =>
    connected(async (client) => {
      // All of them are asked before the first is answered.
      const numbers = Array.from({ length: 50 }, (_, n) => n);
      const asked = numbers.map((n) => client.query("SELECT $1::int + 1 AS n", [n]));
      return (await Promise.all(asked)).map((result) => result.rows[0].n);
    }),

  cursor: () =>
    connected(async (client) => {
      const sql = "SELECT n FROM generate_series($1::int, 25) n";
      const cursor = client.query(new Cursor(sql, [1]));
      const got = [];
      for (;;) {
        const part = await cursor.read(10);
        got.push(part.map((row) => row.n));
        if (part.length === 0) break;
      }
      await cursor.close();
      const left = client.query(new Cursor(sql, [1]));
      got.push((await left.read(3)).map((row) => row.n));
      await left.close();
      got.push(await rows(client.query("SELECT 'after' AS cursor")));
      return got;
    }),

  copy: () =>
    connected(async (client) => {
      const lines = Array.from({ length: 20000 }, (_, n) => `${n + 1000}\tcopied ${n} \\\\ ä\n`);
      await pipeline(Readable.from(lines), client.query(from("COPY items FROM STDIN")));
      const out = client.query(to("COPY (SELECT * FROM items WHERE id >= 1000 ORDER BY id) TO STDOUT"));
      const chunks = [];
      for await (const chunk of out) chunks.push(chunk);
      const same = Buffer.concat(chunks).toString() === lines.join("");
      const bad = pipeline(Readable.from(["nonsense\n"]), client.query(from("COPY items FROM STDIN")));
      return [same, await failure(bad), await rows(client.query("SELECT count(*) FROM items"))];
    }),

  errors: () =>
    connected(async (client) => [
      await failure(client.query("SELECT 1/0")),
      await failure(client.query("SELEC")),
      await failure(client.query("SELECT * FROM nowhere WHERE x = $1", [1])),
      await failure(client.query("SELECT $1::int", ["x"])),
      await failure(client.query("INSERT INTO items VALUES ($1)", [1])),
      await rows(client.query("SELECT 'after' AS errors")),
    ]),

  notices: () =>
    connected(async (client) => {
      const got = [];
      client.on("notice", (notice) => got.push([notice.severity, notice.message]));
      await client.query("DO $$ BEGIN RAISE NOTICE 'seen'; RAISE WARNING 'too'; END $$");
      return got;
    }),

  notifications: () =>
    connected(async (listener) => {
      await listener.query("LISTEN news");
      const arrived = once(listener, "notification");
      await connected((client) => client.query("SELECT pg_notify('news', $1)", ["hello"]));
      const [{ channel, payload }] = await arrived;
      return [channel, payload];
    }),

  cancel: () =>
    connected(async (client) => {
      const ended = failure(client.query("DO $$ BEGIN PERFORM pg_sleep(600); END $$"));
      const active = `/* pgproxy: primary */ SELECT 1 FROM pg_stat_activity
        WHERE query LIKE 'DO %600%' AND state = 'active' AND datname = current_database()`;
      await connected(async (other) => {
        while ((await other.query(active)).rowCount === 0);
      });
      const request = Buffer.alloc(16);
      [16, 80877102, client.processID].forEach((value, n) => request.writeInt32BE(value, 4 * n));
      request.writeInt32BE(client.secretKey, 12);
      const socket = net.connect(client.port, client.host);
      await once(socket, "connect");
      socket.end(request);
      return [await ended, await rows(client.query("SELECT 'after' AS cancel"))];
    }),

  timeout: () =>
    connected(
      async (client) => [
        await failure(client.query("SELECT pg_sleep(600)")),
        await rows(client.query("SHOW statement_timeout")),
        await rows(client.query("SHOW application_name")),
      ],
      { statement_timeout: 300, application_name: "node" },
    ),

  large: () =>
    connected(async (client) => {
      const text = "0123456789".repeat(300000);
      const { rows: [row] } = await client.query("SELECT $1::text || 'x' AS t", [text]);
      return row.t === `${text}x`;
    }),

  concurrent: async () => {
    const pool = new pg.Pool({ connectionString, max: 12 });
    await pool.query("CREATE TABLE counter AS SELECT 0 AS n");
    const step = async (n) => {
      const client = await pool.connect();
      try {
        await client.query("BEGIN");
        await client.query({ name: "add", text: "UPDATE counter SET n = n + $1", values: [n] });
        await client.query(n % 5 === 0 ? "ROLLBACK" : "COMMIT");
        const { rows: [row] } = await client.query({ name: "own", text: "SELECT $1::int AS n", values: [n] });
        return row.n;
      } finally {
        client.release();
      }
    };
    const own = await Promise.all(Array.from({ length: 200 }, (_, n) => step(n)));
    const total = await rows(pool.query("SELECT n FROM counter"));
    await pool.end();
    return [own.every((value, n) => value === n), total];
  },
};

const results = {};
await connected((client) => client.query("CREATE TABLE items (id int PRIMARY KEY, name text)"));
for (const [name, section] of Object.entries(sections)) {
  console.error(name);
  results[name] = await section();
}
console.log(JSON.stringify(results));
