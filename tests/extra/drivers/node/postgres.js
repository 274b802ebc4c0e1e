// postgres.js at its usual work. Prints what it got as JSON.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";
import { connectionString, failure, main, reported, reporting, scripts, sleeping } from "./sessions.js";

const connect = (options = {}) => postgres(connectionString, { max: 1, onnotice: () => {}, ...options });

const sections = {
  simple: async (sql) => [
    await sql`SELECT 1 AS one, NULL AS nothing, 'süß' AS text`.simple(),
    await sql.unsafe("SELECT 1 AS a; SELECT 2 AS b"),
    (await sql`INSERT INTO items ${sql([{ id: 1, name: "a" }, { id: 2, name: "b" }])}`).count,
    await sql`SELECT * FROM items ORDER BY id`,
  ],

  parameters: async (sql) => {
    const [a, b, c, d] = [7, "x' \\ €", null, Buffer.from([0, 255])];
    const got = await sql`SELECT ${a}::int8 a, ${b}::text b, ${c}::text c, encode(${d}::bytea, 'hex') d,
      ${true}::bool e, ${[1, 2]}::int[] f, ${sql.json({ g: 1 })} g, ${1.5}::float8 h`;
    return [got, got.columns.map((column) => [column.name, column.type])];
  },

  prepared: async (sql) => {
    const got = [];
    for (let n = 10; n < 20; n += 1) {
      got.push(await sql`INSERT INTO items VALUES (${n}, ${`prepared ${n}`}) RETURNING id`);
      got.push(await sql`SELECT name FROM items WHERE id = ${n}`);
    }
    got.push(await failure(sql`INSERT INTO items VALUES (${10}, ${"twice"}) RETURNING id`));
    const { types, string } = await sql`SELECT name FROM items WHERE id = ${10}`.describe();
    got.push(types, string);
    got.push(await failure(sql`PREPARE mine (int) AS SELECT $1 + 1 AS next`.simple()));
    got.push(await sql.unsafe("EXECUTE mine (1)"));
    got.push(await sql`SELECT name FROM items WHERE id = ${11}`);
    got.push(await failure(sql`DEALLOCATE mine`), await failure(sql.unsafe("EXECUTE mine (1)")));
    got.push(await failure(sql`DEALLOCATE ALL`.simple()));
    // Gone, under a name of its own; postgres.js then prepares it again.
    got.push(await failure(sql`SELECT name FROM items WHERE id = ${11}`).then((one) => one.code ?? one));
    return got;
  },

  unprepared: async () => {
    const sql = connect({ prepare: false });
    const got = await Promise.all([1, 2, 3].map((n) => sql`SELECT ${n}::int AS n`));
    await sql.end();
    return got;
  },

  transaction: async (sql) => {
    const count = () => sql`SELECT count(*)::int FROM items WHERE name = 'transaction'`;
    const got = [];
    got.push(await failure(sql.begin(async (own) => {
      await own`INSERT INTO items VALUES (30, 'transaction')`;
      got.push(await own`SELECT count(*)::int FROM items WHERE name = 'transaction'`);
      await own`SELECT 1/0`;
    })));
    got.push(await count());
    got.push(await sql.begin(async (own) => {
      await own`INSERT INTO items VALUES (30, 'transaction')`;
      got.push(await failure(own.savepoint((inner) => inner`SELECT * FROM nowhere`)));
      return own`SELECT count(*)::int FROM items WHERE name = 'transaction'`;
    }));
    got.push(await count());
    got.push(await sql.begin("READ ONLY", (own) => own`SELECT count(*)::int FROM items`));
    got.push(await failure(sql.begin("READ ONLY", (own) => own`DELETE FROM items`)));
    return got;
  },

  // One connection, all asked at once: postgres.js does not wait for the answers.
  batch: async (sql) => {
    const asked = Array.from({ length: 100 }, (_, n) =>
      n % 10 === 9 ? failure(sql`SELECT ${n}::int / 0 AS n`) : sql`SELECT ${n}::int AS n`);
    const mixed = Array.from({ length: 20 }, (_, n) =>
      n % 2 ? sql`INSERT INTO items VALUES (${n + 50}, 'batch')` : sql`SELECT count(*)::int AS n FROM items`);
    return [await Promise.all(asked), await Promise.all(mixed)];
  },

  pipelined_transaction: (sql) =>
    sql.begin((own) => [
      own`INSERT INTO items VALUES (80, 'one')`,
      own`INSERT INTO items VALUES (81, 'two')`,
      own`SELECT count(*)::int FROM items WHERE id IN (80, 81)`,
    ]),

  cursor: async (sql) => {
    const got = [];
    for await (const part of sql`SELECT n FROM generate_series(${1}::int, 25) n`.cursor(10)) {
      got.push(part.map((row) => row.n));
    }
    await sql`SELECT n FROM generate_series(1, 25) n`.cursor(5, (part) => {
      got.push(part.length);
      return sql.CLOSE;
    });
    await sql`SELECT n FROM generate_series(1, 3) n`.forEach((row) => got.push(row.n));
    return got;
  },

  copy: async (sql) => {
    const lines = Array.from({ length: 20000 }, (_, n) => `${n + 1000}\tcopied ${n} \\\\ ä\n`);
    await pipeline(Readable.from(lines), await sql`COPY items FROM STDIN`.writable());
    // On a connection of its own: postgres.js may leave its socket paused afterwards.
    const other = connect();
    const copy = other`COPY (SELECT * FROM items WHERE id >= 1000 ORDER BY id) TO STDOUT`;
    const chunks = [];
    for await (const chunk of await copy.readable()) chunks.push(chunk);
    await other.end();
    return [Buffer.concat(chunks).toString() === lines.join(""), await sql`SELECT count(*)::int FROM items`];
  },

  errors: async (sql) => [
    await failure(sql`SELECT 1/0`),
    await failure(sql`SELEC`),
    await failure(sql`SELECT * FROM nowhere WHERE x = ${1}`),
    await failure(sql`INSERT INTO items VALUES (${1})`),
    await sql`SELECT 'after' AS errors`,
  ],

  notifications: async (sql) => {
    let heard;
    const arrived = new Promise((resolve) => { heard = resolve; });
    const listener = connect();
    await listener.listen("news", heard);
    await sql.notify("news", "hello");
    const payload = await arrived;
    await listener.end();
    return payload;
  },

  cancel: async (sql) => {
    const asked = sql.unsafe("DO $$ BEGIN PERFORM pg_sleep(600); END $$");
    const ended = failure(asked);
    const other = connect();
    while ((await other.unsafe(sleeping)).count === 0);
    await other.end();
    asked.cancel();
    return [await ended, await sql`SELECT 'after' AS cancel`];
  },

  timeout: async () => {
    const sql = connect({ connection: { statement_timeout: 300, application_name: "js" } });
    const got = [await failure(sql`SELECT pg_sleep(600)`), await sql`SHOW application_name`];
    await sql.end();
    return got;
  },

  reconnect: async () => {
    const got = [];
    const own = connect();
    // It connects anew, once it has seen that the old connection is closed.
    const again = async () => {
      for (;;) {
        const asked = own`SELECT count(*)::int FROM items WHERE id = ${70}`;
        if (await failure(asked) === "no error") return asked;
      }
    };
    for (let n = 0; n < 3; n += 1) {
      got.push((await failure(own`SELECT pg_terminate_backend(pg_backend_pid())`)).code, await again());
    }
    const other = connect();
    let tell;
    const told = new Promise((resolve) => { tell = resolve; });
    const ended = failure(own.begin(async (inner) => {
      await inner`INSERT INTO items VALUES (70, 'lost')`;
      const [{ pid }] = await inner`SELECT pg_backend_pid() AS pid`;
      tell(pid);
      await new Promise(() => {}); // until the connection's end ends it
    }));
    got.push(await other`SELECT pg_terminate_backend(${await told}, 10000) AS ended`);
    got.push((await ended) !== "no error");
    got.push(await again());
    await Promise.all([own.end(), other.end()]);
    return got;
  },

  reported: async () => {
    const got = [];
    for (const script of reporting) {
      const own = connect();
      await own.unsafe(script).simple();
      await own`SELECT 1`;
      got.push([script, ...reported.map((name) => own.parameters[name])]);
      await own.end();
    }
    return got;
  },

  settings: async () => {
    const own = connect({ connection: { "app.who": "at start", application_name: "js" }, max: 3 });
    const shown = await Promise.all([1, 2, 3].map(() => own`SHOW app.who`));
    await own.begin(async (inner) => {
      await inner`SELECT set_config('app.who', 'local', true)`;
      shown.push(await inner`SHOW app.who`);
    });
    shown.push(await own`SHOW app.who`);
    const reserved = await own.reserve();
    await reserved`SET app.who = 'reserved'`;
    shown.push(await reserved`SHOW app.who`);
    await reserved`RESET app.who`;
    shown.push(await reserved`SHOW app.who`);
    reserved.release();
    await own.end();
    return shown;
  },

  large: async (sql) => {
    const text = "0123456789".repeat(300000);
    const [row] = await sql`SELECT ${text}::text || 'x' AS t`;
    return row.t === `${text}x`;
  },

  concurrent: async () => {
    const sql = connect({ max: 12 });
    await sql`CREATE TABLE counter AS SELECT 0 AS n`;
    const own = await Promise.all(Array.from({ length: 200 }, (_, n) =>
      sql.begin(async (inner) => {
        await inner`UPDATE counter SET n = n + ${n}`;
        const [row] = await inner`SELECT ${n}::int AS n`;
        return row.n;
      })));
    const total = await sql`SELECT n FROM counter`;
    await sql.end();
    return [own.every((value, n) => value === n), total];
  },
};

for (const [name, script] of scripts) {
  for (const protocol of ["simple", "extended"]) {
    sections[`${name} ${protocol}`] = async () => {
      const own = connect();
      const got = [];
      for (const text of script) {
        const asked = protocol === "simple" ? own.unsafe(text).simple() : own.unsafe(text, [], { prepare: true });
        const ended = await failure(asked);
        // Of several statements it gives a list of results.
        got.push([text, ended === "no error" ? await asked : ended]);
      }
      await own.end();
      return got;
    };
  }
}

const shared = connect();
await shared`CREATE TABLE items (id int PRIMARY KEY, name text)`;
const bound = Object.entries(sections).map(([name, section]) => [name, () => section(shared)]);
await main(Object.fromEntries(bound));
await shared.end({ timeout: 1 });
