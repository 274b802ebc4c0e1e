// What both programs share. Their arguments: the file of sessions, and the database's URL.
import { readFileSync } from "node:fs";

export const [file, connectionString] = process.argv.slice(-2);

export const sleeping = `/* pgproxy: primary */ SELECT 1 FROM pg_stat_activity
  WHERE query LIKE 'DO %600%' AND state = 'active' AND datname = current_database()`;

export const reporting = [
  "SELECT 1",
  "SET application_name = 'own'; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'ISO, DMY'",
  "BEGIN; SET TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; ROLLBACK",
  "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; COMMIT",
  "SET search_path = one, two; SET TimeZone = 'Asia/Tokyo'; RESET TimeZone",
  "SET application_name = 'own'; RESET ALL",
];
export const reported = ["application_name", "client_encoding", "DateStyle", "TimeZone", "search_path"];

// The sections of the file: their names, and their statements.
export const scripts = readFileSync(file, "utf8").split("\n== ").slice(1).map((part) => {
  const [name, ...lines] = part.split("\n");
  return [name, lines.filter((line) => line !== "")];
});

export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    const { code, message, severity, constraint, constraint_name: named, position } = error;
    return { code, message, severity, constraint: constraint ?? named, position };
  }
  return "no error";
}

export async function main(sections) {
  const results = {};
  for (const [name, section] of Object.entries(sections)) {
    console.error(name);
    try {
      results[name] = await section();
    } catch (error) {
      console.error(error);
      results[name] = { raised: String(error) };
    }
  }
  console.log(JSON.stringify(results));
}
