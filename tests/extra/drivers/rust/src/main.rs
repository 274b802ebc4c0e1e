//! tokio-postgres at its usual work. Prints what it got as JSON.
//! Arguments: the file of sessions, and the database's URL.
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, poll_fn};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{
    AsyncMessage, Client, IsolationLevel, NoTls, Row, SimpleQueryMessage, connect as open,
};

type Failed = tokio_postgres::Error;
type Got = Result<Value, Box<dyn Error>>;

/// A value of whatever type as the server sent it.
struct Raw(Option<String>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let hex = || raw.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Raw(Some(match std::str::from_utf8(raw) {
            Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
            _ => hex(),
        })))
    }
    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(None))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

struct Session {
    client: Client,
    connection: JoinHandle<Vec<(String, Option<String>)>>,
    messages: UnboundedReceiver<AsyncMessage>,
}

const REPORTED: [&str; 6] =
    ["application_name", "client_encoding", "DateStyle", "TimeZone", "is_superuser", "search_path"];

/// The task at the connection ends with what the server last reported of the settings.
async fn connect(url: &str) -> Result<Session, Failed> {
    let (client, mut connection) = open(url, NoTls).await?;
    let (sender, messages) = unbounded_channel();
    let connection = spawn_local(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            let _ = sender.send(message);
        }
        let last = |name: &str| (name.to_owned(), connection.parameter(name).map(str::to_owned));
        REPORTED.into_iter().map(last).collect()
    });
    Ok(Session { client, connection, messages })
}

fn failure(error: &Failed) -> Value {
    match error.as_db_error() {
        Some(said) => json!([said.severity(), said.code().code(), said.message(), said.constraint()]),
        None if error.is_closed() => json!("closed"),
        None => json!("another error"),
    }
}

fn outcome<T: Into<Value>>(result: Result<T, Failed>) -> Value {
    result.map_or_else(|error| failure(&error), Into::into)
}

fn listed(rows: Vec<Row>) -> Value {
    let row = |row: &Row| (0..row.len()).map(|n| row.get::<_, Raw>(n).0).collect::<Vec<_>>();
    json!(rows.iter().map(row).collect::<Vec<_>>())
}

async fn ask(client: &Client, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Value {
    outcome(client.query(sql, values).await.map(listed))
}

async fn ask_simply(client: &Client, sql: &str) -> Value {
    let answer = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => json!((0..row.len()).map(|n| row.get(n)).collect::<Vec<_>>()),
        SimpleQueryMessage::CommandComplete(count) => json!(count),
        SimpleQueryMessage::RowDescription(columns) => {
            json!(columns.iter().map(|one| one.name()).collect::<Vec<_>>())
        }
        _ => json!("another message"),
    };
    let results = client.simple_query(sql).await;
    outcome(results.map(|list| list.iter().map(answer).collect::<Vec<_>>()))
}

async fn simple(session: &mut Session, _: &str) -> Got {
    let client = &session.client;
    Ok(json!([
        ask_simply(client, "SELECT 1 AS one, NULL AS nothing, 'süß' AS text; SELECT 2").await,
        ask_simply(client, "INSERT INTO items VALUES (1, 'a'), (2, 'b')").await,
        ask_simply(client, "").await,
        outcome(client.execute("UPDATE items SET name = name", &[]).await),
        ask(client, "SELECT * FROM items ORDER BY id", &[]).await,
    ]))
}

async fn parameters(session: &mut Session, _: &str) -> Got {
    let sql = "SELECT $1::int8, $2::text, $3::text, $4::bool, encode($5::bytea, 'hex'), $6::float8,
        $7::int[]::text";
    let list = vec![1, 2, 3];
    let mut got = vec![];
    for n in 0..3i64 {
        let bytes: &[u8] = &[0, 255];
        let values: [&(dyn ToSql + Sync); 7] =
            [&n, &"x' \\ €", &None::<String>, &true, &bytes, &1.5f64, &list];
        got.push(ask(&session.client, sql, &values).await);
    }
    let typed = session.client.query_typed("SELECT $1", &[(&7i32, Type::INT4)]).await;
    got.push(outcome(typed.map(listed)));
    Ok(json!(got))
}

/// A statement is closed when it is dropped.
async fn prepared(session: &mut Session, _: &str) -> Got {
    let client = &session.client;
    let mut got = vec![];
    for round in 0..3 {
        let add = client.prepare("INSERT INTO items VALUES ($1, $2) RETURNING id").await?;
        let pick = client.prepare("SELECT name FROM items WHERE id = $1").await?;
        got.push(json!(pick.params().iter().map(Type::name).collect::<Vec<_>>()));
        got.push(json!(pick.columns().iter().map(|column| column.name()).collect::<Vec<_>>()));
        for n in 10 * (round + 1)..10 * (round + 1) + 5 {
            let name = format!("prepared {n}");
            got.push(outcome(client.query(&add, &[&n, &name]).await.map(listed)));
            got.push(outcome(client.query(&pick, &[&n]).await.map(listed)));
        }
        got.push(outcome(client.query(&add, &[&10, &"twice"]).await.map(listed)));
        got.push(ask_simply(client, "PREPARE pick (int) AS SELECT $1 + 1 AS next").await);
        got.push(ask_simply(client, "EXECUTE pick (1)").await);
        got.push(outcome(client.query(&pick, &[&10]).await.map(listed)));
        if round < 2 {
            got.push(ask_simply(client, "DEALLOCATE pick").await);
        } else {
            got.push(ask_simply(client, "DEALLOCATE ALL").await);
            got.push(ask_simply(client, "EXECUTE pick (1)").await);
            // It is gone too, under a name that nobody else sees.
            let gone = client.query(&pick, &[&10]).await.err();
            got.push(json!(gone.and_then(|error| error.code().map(|code| code.code().to_owned()))));
        }
    }
    Ok(json!(got))
}

async fn transaction(session: &mut Session, _: &str) -> Got {
    let client = &mut session.client;
    let count = "SELECT count(*)::text FROM items WHERE name = 'transaction'";
    let mut got = vec![];
    for commit in [false, true] {
        let mut outer = client.transaction().await?;
        outer.execute("INSERT INTO items VALUES (50, 'transaction')", &[]).await?;
        let inner = outer.savepoint("here").await?;
        got.push(outcome(inner.query("SELECT 1 / $1::int", &[&0]).await.map(listed)));
        got.push(outcome(inner.query("SELECT $1::int", &[&1]).await.map(listed)));
        inner.rollback().await?;
        got.push(outcome(outer.query(count, &[]).await.map(listed)));
        let inner = outer.transaction().await?;
        inner.execute("INSERT INTO items VALUES (51, 'transaction')", &[]).await?;
        inner.commit().await?;
        got.push(outcome(outer.query(count, &[]).await.map(listed)));
        if commit { outer.commit().await? } else { outer.rollback().await? }
        got.push(ask(client, count, &[]).await);
    }
    let dropped = client.transaction().await?;
    dropped.execute("DELETE FROM items", &[]).await?;
    drop(dropped); // rolls back
    got.push(ask(client, count, &[]).await);
    let options = client.build_transaction().isolation_level(IsolationLevel::Serializable);
    let reading = options.read_only(true).deferrable(true).start().await?;
    got.push(outcome(reading.query("SHOW transaction_isolation", &[]).await.map(listed)));
    got.push(outcome(reading.query(count, &[]).await.map(listed)));
    got.push(outcome(reading.execute("DELETE FROM items", &[]).await));
    reading.rollback().await?;
    got.push(ask(client, count, &[]).await);
    Ok(json!(got))
}

/// Futures that are polled together are sent together.
async fn pipeline(session: &mut Session, _: &str) -> Got {
    let client = &session.client;
    let statement = client.prepare("SELECT ($1::int + 1)::text").await?;
    let numbers: Vec<i32> = (0..50).collect();
    let asked = numbers.iter().map(|n| async {
        outcome(client.query_opt(&statement, &[n]).await.map(|row| row.map(|row| row.get::<_, String>(0))))
    });
    let mixed = numbers.iter().map(|n| async move {
        match n % 4 {
            0 => ask(client, "SELECT (10 / $1::int)::text", &[&(n % 8)]).await,
            1 => ask_simply(client, &format!("SELECT {n}; SELECT {n} / 0")).await,
            2 => outcome(client.execute("INSERT INTO items VALUES ($1, 'piped')", &[&(200 + n)]).await),
            _ => ask(client, "SELECT ($1::int / 0)::text", &[n]).await,
        }
    });
    let all = join_all(asked).await;
    // Each of these is several messages with a round trip between: they interleave.
    let interleaved = join_all(mixed).await;
    let count = ask(client, "SELECT count(*)::text FROM items WHERE name = 'piped'", &[]).await;
    Ok(json!([all, interleaved, count]))
}

async fn cursor(session: &mut Session, _: &str) -> Got {
    let transaction = session.client.transaction().await?;
    let portal = transaction.bind("SELECT n::text FROM generate_series(1, $1::int) n", &[&25]).await?;
    let mut got = vec![];
    for _ in 0..3 {
        got.push(outcome(transaction.query_portal(&portal, 10).await.map(listed)));
        got.push(outcome(transaction.query("SELECT 'between'", &[]).await.map(listed)));
    }
    transaction.commit().await?;
    let none: [&str; 0] = [];
    let rows = session.client.query_raw("SELECT n FROM generate_series(1, 100000) n", none).await?;
    let mut rows = Box::pin(rows);
    got.push(json!(rows.next().await.is_some()));
    drop(rows); // the rest still comes
    got.push(ask(&session.client, "SELECT 'after'", &[]).await);
    Ok(json!(got))
}

async fn copy(session: &mut Session, _: &str) -> Got {
    let client = &session.client;
    let lines: String = (1000..21000).map(|n| format!("{n}\tcopied {n} \\\\ ä\n")).collect();
    let mut got = vec![];
    let mut into = Box::pin(client.copy_in::<_, Bytes>("COPY items FROM STDIN").await?);
    for part in lines.as_bytes().chunks(10_000) {
        into.send(Bytes::copy_from_slice(part)).await?;
    }
    got.push(json!(into.as_mut().finish().await?));
    let out = client.copy_out("COPY (SELECT * FROM items WHERE id >= 1000 ORDER BY id) TO STDOUT").await?;
    let parts: Vec<Bytes> = out.try_collect().await?;
    got.push(json!(parts.concat() == lines.as_bytes()));
    let mut wrong = Box::pin(client.copy_in::<_, Bytes>("COPY items FROM STDIN").await?);
    let _ = wrong.send(Bytes::from("nonsense\n")).await;
    got.push(outcome(wrong.as_mut().finish().await));
    // Dropped before its end, it fails.
    let mut dropped = Box::pin(client.copy_in::<_, Bytes>("COPY items FROM STDIN").await?);
    dropped.send(Bytes::from("90000\tnever\n")).await?;
    drop(dropped);
    got.push(ask(client, "SELECT count(*)::text FROM items WHERE id >= 1000", &[]).await);
    got.push(outcome(client.execute("DELETE FROM items WHERE id >= 1000", &[]).await));
    got.push(outcome(client.copy_out("COPY nowhere TO STDOUT").await.map(|_| "started")));
    Ok(json!(got))
}

async fn errors(session: &mut Session, _: &str) -> Got {
    let mut got = vec![];
    for _ in 0..3 {
        got.push(ask(&session.client, "SELECT 1 / $1::int", &[&0]).await);
        got.push(ask(&session.client, "SELEC", &[]).await);
        got.push(ask(&session.client, "SELECT * FROM nowhere WHERE x = $1", &[&1]).await);
        got.push(ask(&session.client, "INSERT INTO items VALUES ($1, 'twice')", &[&1]).await);
        got.push(ask_simply(&session.client, "SELECT 1; SELECT 1 / 0; SELECT 3").await);
    }
    got.push(ask(&session.client, "SELECT 'after'", &[]).await);
    Ok(json!(got))
}

async fn notifications(session: &mut Session, url: &str) -> Got {
    let mut listener = connect(url).await?;
    let mut got = vec![ask_simply(&listener.client, "LISTEN news").await];
    let say = "SELECT pg_notify('news', $1)";
    session.client.execute(say, &[&"hello"]).await?;
    let transaction = session.client.transaction().await?;
    transaction.execute(say, &[&"never"]).await?;
    transaction.rollback().await?;
    session.client.batch_execute("NOTIFY news, 'last'").await?;
    while got.len() < 3 {
        if let Some(AsyncMessage::Notification(one)) = listener.messages.recv().await {
            got.push(json!([one.channel(), one.payload()]));
        }
    }
    got.push(ask_simply(&listener.client, "UNLISTEN *").await);
    got.push(ask_simply(&listener.client, "DO $$ BEGIN RAISE NOTICE 'seen'; END $$").await);
    if let Some(AsyncMessage::Notice(one)) = listener.messages.recv().await {
        got.push(json!(one.message()));
    }
    Ok(json!(got))
}

const ACTIVE: &str = "/* pgproxy: primary */ SELECT count(*) > 0 FROM pg_stat_activity
    WHERE query LIKE 'DO %600%' AND state = 'active' AND datname = current_database()";

async fn cancel(session: &mut Session, url: &str) -> Got {
    let client = &session.client;
    let mut got = vec![];
    for _ in 0..3 {
        let other = connect(url).await?;
        let asked = ask_simply(client, "DO $$ BEGIN PERFORM pg_sleep(600); END $$");
        let cancelling = async {
            while !other.client.query_one(ACTIVE, &[]).await?.get::<_, bool>(0) {}
            client.cancel_token().cancel_query(NoTls).await
        };
        let (ended, cancelled) = tokio::join!(asked, cancelling);
        cancelled?;
        got.push(ended);
        got.push(ask(client, "SELECT 'after'", &[]).await);
    }
    Ok(json!(got))
}

/// One by the caller's clock, which goes on to cancel; the next answer is that statement's.
async fn timeouts(session: &mut Session, url: &str) -> Got {
    let client = &session.client;
    let mut got = vec![];
    let mut asked = pin!(client.simple_query("SELECT pg_sleep(600)"));
    let soon = tokio::time::timeout(Duration::from_millis(500), &mut asked).await;
    got.push(json!(soon.is_err()));
    let token = client.cancel_token();
    // PostgreSQL ignores a cancel that comes too early.
    let ended = loop {
        token.cancel_query(NoTls).await?;
        if let Ok(ended) = tokio::time::timeout(Duration::from_millis(500), &mut asked).await {
            break ended;
        }
    };
    got.push(outcome(ended.map(|_| "done")));
    got.push(ask(client, "SELECT 'after'", &[]).await);
    let own = connect(&format!("{url}?options=-c%20statement_timeout%3D500&application_name=rust")).await?;
    got.push(ask(&own.client, "SELECT pg_sleep(600)", &[]).await);
    got.push(ask(&own.client, "SHOW statement_timeout", &[]).await);
    got.push(ask(&own.client, "SHOW application_name", &[]).await);
    Ok(json!(got))
}

/// A server connection that is ended ends the client's; a new one goes on.
async fn reconnect(session: &mut Session, url: &str) -> Got {
    let mut got = vec![];
    let ended = connect(url).await?;
    let sql = "SELECT pg_terminate_backend(pg_backend_pid())";
    got.push(ask_simply(&ended.client, sql).await);
    ended.connection.await?;
    got.push(json!([ended.client.is_closed(), ask(&ended.client, "SELECT 1", &[]).await]));
    let open = connect(url).await?;
    open.client.batch_execute("BEGIN; INSERT INTO items VALUES (70, 'lost')").await?;
    let pid: i32 = open.client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let sql = "SELECT pg_terminate_backend($1, 10000)";
    got.push(ask(&session.client, sql, &[&pid]).await);
    got.push(json!(open.client.simple_query("SELECT 1").await.is_err()));
    open.connection.await?;
    for _ in 0..10 {
        let again = connect(url).await?;
        got.push(ask(&again.client, "SELECT count(*) FROM items WHERE id = $1::int", &[&70]).await);
        drop(again.client);
        again.connection.await?;
    }
    Ok(json!(got))
}

async fn reported(_: &mut Session, url: &str) -> Got {
    let mut got = vec![];
    for script in [
        "SELECT 1",
        "SET application_name = 'own'; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'ISO, DMY'",
        "BEGIN; SET TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; ROLLBACK",
        "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; COMMIT",
        "SET ROLE drivers_guest",
        "SET search_path = one, two; SET TimeZone = 'Asia/Tokyo'; RESET TimeZone",
        "SET application_name = 'own'; RESET ALL",
    ] {
        let session = connect(url).await?;
        got.push(ask_simply(&session.client, script).await);
        drop(session.client);
        got.push(json!(session.connection.await?));
    }
    Ok(json!(got))
}

async fn large(session: &mut Session, _: &str) -> Got {
    let text = "0123456789".repeat(300_000);
    let row = session.client.query_one("SELECT $1::text || 'x'", &[&text]).await?;
    Ok(json!([row.get::<_, String>(0) == text + "x"]))
}

async fn concurrent(session: &mut Session, url: &str) -> Got {
    session.client.batch_execute("CREATE TABLE counter AS SELECT 0 AS n").await?;
    let work = (0..10).map(|worker| async move {
        let mut own = connect(url).await?.client;
        let mut right = true;
        for n in worker * 20..worker * 20 + 20 {
            let transaction = own.transaction().await?;
            transaction.execute("UPDATE counter SET n = n + $1", &[&n]).await?;
            if n % 5 == 0 { transaction.rollback().await? } else { transaction.commit().await? }
            right &= own.query_one("SELECT $1::int", &[&n]).await?.get::<_, i32>(0) == n;
        }
        Ok::<bool, Failed>(right)
    });
    let right = join_all(work).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let total = ask(&session.client, "SELECT n::text FROM counter", &[]).await;
    Ok(json!([right.iter().all(|one| *one), total]))
}

/// The sections of the file, each in a session of its own and in both protocols.
async fn sessions(results: &mut Map<String, Value>, file: &str, url: &str) -> Result<(), Box<dyn Error>> {
    for part in std::fs::read_to_string(file)?.split("\n== ").skip(1) {
        let (name, script) = part.split_once('\n').ok_or("no name")?;
        for simply in [true, false] {
            let session = connect(url).await?;
            let mut got = vec![];
            for sql in script.lines().filter(|line| !line.is_empty()) {
                got.push(json!([sql, match simply {
                    true => ask_simply(&session.client, sql).await,
                    false => ask(&session.client, sql, &[]).await,
                }]));
            }
            results.insert(format!("{name} {}", if simply { "simple" } else { "extended" }), json!(got));
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (file, url) = (&arguments[1], &*Box::leak(arguments[2].clone().into_boxed_str()));
    LocalSet::new()
        .run_until(async {
            let mut results = Map::new();
            let first = connect(url).await?;
            first.client.batch_execute("CREATE TABLE items (id int PRIMARY KEY, name text)").await?;
            macro_rules! sections {
                ($($name:ident)*) => { $({
                    eprintln!(stringify!($name));
                    let mut session = connect(url).await?;
                    let got = $name(&mut session, url).await;
                    let raised = |error: Box<dyn Error>| json!({"raised": error.to_string()});
                    results.insert(stringify!($name).to_owned(), got.unwrap_or_else(raised));
                })* };
            }
            sections!(simple parameters prepared transaction pipeline cursor copy errors notifications
                cancel timeouts reconnect reported large concurrent);
            sessions(&mut results, file, url).await?;
            println!("{}", Value::Object(results));
            Ok(())
        })
        .await
}
