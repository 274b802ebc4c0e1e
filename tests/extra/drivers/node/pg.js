// node-postgres at its usual work. Prints what it got as JSON.
import { once } from "node:events";
import net from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from, to } from "pg-copy-streams";
import Cursor from "pg-cursor";
import { connectionString, failure, main, reported, reporting, scripts, sleeping } from "./sessions.js";

async function connected(work, options = {}) {
  const client = new pg.Client({ connectionString, ...options });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
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
      got.push(await failure(client.query({ name: "pick", text: "SELECT another" })));
      // One name space for the protocol's and SQL's.
      got.push(await failure(client.query("PREPARE pick AS SELECT 1")));
      got.push(await failure(client.query("PREPARE mine (int) AS SELECT $1 + 1 AS next")));
      got.push(await rows(client.query("EXECUTE mine (1)")));
      got.push(await rows(client.query("EXECUTE pick (11)")));
      got.push(await rows(client.query({ ...pick, values: [12] })));
      got.push(await failure(client.query("DEALLOCATE mine")));
      got.push(await failure(client.query("EXECUTE mine (1)")));
      got.push(await failure(client.query("DEALLOCATE ALL")));
      const { code } = await failure(client.query({ ...pick, values: [10] }));
      got.push(code);
      return got;
    }),

  reprepared: () =>
    connected(async (client) => {
      const got = [];
      for (let n = 0; n < 3; n += 1) {
        const text = `SELECT ${n}::int + $1::int AS sum`;
        got.push(await rows(client.query({ name: "again", text, values: [n] })));
        got.push(await rows(client.query({ name: "again", text, values: [n + 1] })));
        await client.query("DEALLOCATE again");
        delete client.connection.parsedStatements.again; // what pg remembers of it
      }
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
      await connected(async (client) => {
        await client.query("BEGIN");
        await client.query("NOTIFY news, 'never'");
        await client.query("ROLLBACK");
        await client.query("SELECT pg_notify('news', $1)", ["hello"]);
      });
      const [{ channel, payload }] = await arrived;
      await listener.query("UNLISTEN *");
      return [channel, payload];
    }),

  cancel: () =>
    connected(async (client) => {
      const ended = failure(client.query("DO $$ BEGIN PERFORM pg_sleep(600); END $$"));
      await connected(async (other) => {
        while ((await other.query(sleeping)).rowCount === 0);
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

  query_timeout: () =>
    connected(async (client) => {
      const got = [await failure(client.query({ text: "SELECT pg_sleep(0.8)", query_timeout: 200 }))];
      got.push(await rows(client.query("SELECT 'after' AS timeout")));
      return got;
    }),

  reconnect: async () => {
    const got = [];
    const client = new pg.Client({ connectionString });
    await client.connect();
    const gone = new Promise((resolve) => { client.on("error", resolve); });
    got.push((await failure(client.query("SELECT pg_terminate_backend(pg_backend_pid())"))).code);
    await gone;
    got.push((await failure(client.query("SELECT 1"))).message);
    await connected(async (other) => {
      const own = new pg.Client({ connectionString });
      await own.connect();
      const ended = new Promise((resolve) => { own.on("error", resolve); });
      await own.query("BEGIN");
      await own.query("INSERT INTO items VALUES (70, 'lost')");
      const [{ pid }] = await rows(own.query("SELECT pg_backend_pid() AS pid"));
      got.push(await rows(other.query("SELECT pg_terminate_backend($1, 10000) AS ended", [pid])));
      got.push((await failure(own.query("SELECT 1"))) !== "no error");
      await ended;
    });
    const pool = new pg.Pool({ connectionString, max: 1 });
    pool.on("error", () => {});
    for (let n = 0; n < 3; n += 1) {
      got.push(await rows(pool.query("SELECT count(*) FROM items WHERE id = $1", [70])));
      got.push((await failure(pool.query("SELECT pg_terminate_backend(pg_backend_pid())"))).code);
    }
    await pool.end();
    return got;
  },

  reported: async () => {
    const got = [];
    for (const script of reporting) {
      const client = new pg.Client({ connectionString });
      const seen = {};
      client.connection.on("parameterStatus", (said) => { seen[said.parameterName] = said.parameterValue; });
      await client.connect();
      await client.query(script);
      got.push([script, ...reported.map((name) => seen[name])]);
      await client.end();
    }
    return got;
  },

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

for (const [name, script] of scripts) {
  for (const protocol of ["simple", "extended"]) {
    const session = (client) => async (text) => {
      const asked = client.query({ text, rowMode: "array", queryMode: protocol === "simple" ? undefined : "extended" });
      const ended = await failure(asked);
      if (ended !== "no error") return [text, ended];
      const results = [await asked].flat();
      return [text, results.map((one) => [one.command, one.rowCount, one.rows])];
    };
    sections[`${name} ${protocol}`] = () =>
      connected(async (client) => {
        const got = [];
        for (const text of script) got.push(await session(client)(text));
        return got;
      });
  }
}

await connected((client) => client.query("CREATE TABLE items (id int PRIMARY KEY, name text)"));
await main(sections);
