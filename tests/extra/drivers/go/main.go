// pgx at its usual work. Prints what it got as JSON.
// Arguments: the query exec mode, the file of sessions, and the database's URL.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	background = context.Background()
	mode       string
	url        string
)

type section func(*pgx.Conn) []any

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func connect() *pgx.Conn {
	connection, err := pgx.Connect(background, url)
	must(err)
	return connection
}

func failure(err error) any {
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return "no error"
	case errors.As(err, &refused):
		return []any{refused.Code, refused.Message, refused.Severity, refused.ConstraintName}
	}
	return "another error"
}

type querier interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}

func ask(on querier, sql string, values ...any) any {
	rows, err := on.Query(background, sql, values...)
	if err != nil {
		return failure(err)
	}
	return collect(rows)
}

func collect(rows pgx.Rows) any {
	got := [][]any{}
	for rows.Next() {
		row, err := rows.Values()
		must(err)
		got = append(got, row)
	}
	if rows.Err() != nil {
		return failure(rows.Err())
	}
	return got
}

func simple(c *pgx.Conn) []any {
	results, err := c.PgConn().Exec(background, "SELECT 1; SELECT 'süß', NULL; UPDATE items SET id = id").ReadAll()
	must(err)
	got := []any{}
	for _, one := range results {
		got = append(got, one.Rows, one.CommandTag.String())
	}
	tag, err := c.Exec(background, "INSERT INTO items VALUES (1, 'a'), (2, 'b')")
	must(err)
	return append(got, tag.String(), ask(c, "SELECT * FROM items ORDER BY id"), failure(c.Ping(background)))
}

func parameters(c *pgx.Conn) []any {
	got := []any{}
	for n := 0; n < 3; n++ {
		got = append(got, ask(c,
			"SELECT $1::int8, $2::text, $3::text, $4::bool, encode($5::bytea, 'hex'), $6::float8, $7::int[], $8::jsonb",
			int64(n), "x' \\ €", nil, true, []byte{0, 255}, 1.5, []int32{1, 2}, map[string]int{"a": 1}))
	}
	return append(got, ask(c, "SELECT count(*) FROM items WHERE id = ANY ($1)", []int32{1, 2, 99}))
}

func prepared(c *pgx.Conn) []any {
	pick, err := c.Prepare(background, "pick", "SELECT name FROM items WHERE id = $1")
	must(err)
	got := []any{pick.ParamOIDs, pick.Fields[0].Name}
	for n := 10; n < 20; n++ {
		got = append(got,
			ask(c, "INSERT INTO items VALUES ($1, $2) RETURNING id", n, fmt.Sprint("prepared ", n)),
			ask(c, "pick", n))
	}
	got = append(got, ask(c, "INSERT INTO items VALUES ($1, $2) RETURNING id", 10, "twice"), ask(c, "pick", 10))
	must(c.Deallocate(background, "pick"))
	must(c.DeallocateAll(background))
	return append(got, ask(c, "SELECT name FROM items WHERE id = $1", 11))
}

func transaction(c *pgx.Conn) []any {
	count := "SELECT count(*) FROM items WHERE name = 'transaction'"
	got := []any{}
	for _, commit := range []bool{false, true} {
		tx, err := c.Begin(background)
		must(err)
		got = append(got, ask(tx, "INSERT INTO items VALUES ($1, 'transaction') RETURNING id", 30))
		inner, err := tx.Begin(background)
		must(err)
		got = append(got, ask(inner, "SELECT 1 / $1::int", 0), ask(inner, "SELECT $1::int", 1))
		must(inner.Rollback(background))
		got = append(got, ask(tx, count))
		if commit {
			must(tx.Commit(background))
		} else {
			must(tx.Rollback(background))
		}
		got = append(got, ask(c, count))
	}
	failed, err := c.Begin(background)
	must(err)
	got = append(got, ask(failed, "SELECT 1 / 0"), errors.Is(failed.Commit(background), pgx.ErrTxCommitRollback))
	for _, options := range []pgx.TxOptions{
		{AccessMode: pgx.ReadOnly},
		{AccessMode: pgx.ReadOnly, IsoLevel: pgx.Serializable, DeferrableMode: pgx.Deferrable},
		{IsoLevel: pgx.RepeatableRead},
	} {
		tx, err := c.BeginTx(background, options)
		must(err)
		got = append(got, ask(tx, count), ask(tx, "SHOW transaction_isolation"))
		got = append(got, ask(tx, "DELETE FROM items WHERE id = $1 RETURNING id", 99))
		must(tx.Rollback(background))
	}
	return append(got, ask(c, count))
}

func batch(c *pgx.Conn) []any {
	got := []any{}
	for round := 0; round < 3; round++ {
		batch := &pgx.Batch{}
		for n := 0; n < 40; n++ {
			switch {
			case n%4 == 3:
				batch.Queue("INSERT INTO items VALUES ($1, $2) RETURNING id", 100+40*round+n, "batch")
			case round == 2 && n == 20:
				batch.Queue("SELECT 1 / $1::int", 0)
			default:
				batch.Queue("SELECT $1::int, count(*) FROM items", n)
			}
		}
		results := c.SendBatch(background, batch)
		for n := 0; n < 40; n++ {
			rows, err := results.Query()
			if err != nil {
				got = append(got, failure(err))
				break
			}
			got = append(got, collect(rows))
		}
		got = append(got, failure(results.Close()))
	}
	return append(got, ask(c, "SELECT count(*) FROM items WHERE name = 'batch'"))
}

// The protocol's own pipeline: several Sync in flight, errors that skip to the next.
func pipeline(c *pgx.Conn) []any {
	pipeline := c.PgConn().StartPipeline(background)
	pipeline.SendPrepare("piped", "SELECT $1::int + 1", nil)
	pipeline.SendQueryPrepared("piped", [][]byte{[]byte("1")}, nil, nil)
	must(pipeline.Sync())
	for n := 0; n < 10; n++ {
		pipeline.SendQueryParams("SELECT 10 / $1::int", [][]byte{[]byte(fmt.Sprint(n % 3))}, nil, nil, nil)
		pipeline.SendQueryParams("INSERT INTO items VALUES ($1, 'piped')", [][]byte{[]byte(fmt.Sprint(300 + n))}, nil, nil, nil)
		pipeline.SendQueryPrepared("piped", [][]byte{[]byte(fmt.Sprint(n))}, nil, nil)
		must(pipeline.Sync())
	}
	pipeline.SendDeallocate("piped")
	must(pipeline.Sync())
	got := []any{}
	for syncs := 0; syncs < 12; {
		results, err := pipeline.GetResults()
		if err != nil {
			got = append(got, failure(err))
			continue
		}
		switch one := results.(type) {
		case *pgconn.ResultReader:
			read := one.Read()
			got = append(got, read.Rows, read.CommandTag.String(), failure(read.Err))
		case *pgconn.StatementDescription:
			got = append(got, one.ParamOIDs)
		case *pgconn.PipelineSync:
			got = append(got, "sync")
			syncs++
		}
	}
	must(pipeline.Close())
	return append(got, ask(c, "SELECT count(*) FROM items WHERE name = 'piped'"))
}

func cursor(c *pgx.Conn) []any {
	tx, err := c.Begin(background)
	must(err)
	_, err = tx.Exec(background, "DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 25) n")
	must(err)
	got := []any{ask(tx, "FETCH 10 FROM c"), ask(tx, "FETCH 20 FROM c")}
	must(tx.Commit(background))
	rows, err := c.Query(background, "SELECT n FROM generate_series(1, 100000) n")
	must(err)
	rows.Next()
	rows.Close() // reads the rest and throws it away
	return append(got, failure(rows.Err()), ask(c, "SELECT 'after'"))
}

func copying(c *pgx.Conn) []any {
	lines := bytes.Buffer{}
	values := [][]any{}
	for n := int32(1000); n < 21000; n++ {
		fmt.Fprintf(&lines, "%d\tcopied %d \\\\ ä\n", n, n)
		values = append(values, []any{n, fmt.Sprintf("copied %d \\ ä", n)})
	}
	expected := lines.String()
	copied, err := c.CopyFrom(background, pgx.Identifier{"items"}, []string{"id", "name"}, pgx.CopyFromRows(values))
	must(err)
	out := bytes.Buffer{}
	tag, err := c.PgConn().CopyTo(background, &out, "COPY (SELECT * FROM items WHERE id >= 1000 ORDER BY id) TO STDOUT")
	must(err)
	got := []any{copied, tag.String(), out.String() == expected}
	ask(c, "DELETE FROM items WHERE id >= 1000")
	tag, err = c.PgConn().CopyFrom(background, strings.NewReader(expected), "COPY items FROM STDIN")
	must(err)
	_, err = c.PgConn().CopyFrom(background, strings.NewReader("nonsense\n"), "COPY items FROM STDIN")
	got = append(got, tag.String(), failure(err))
	ask(c, "DELETE FROM items WHERE id >= 1000")
	return append(got, ask(c, "SELECT count(*) FROM items WHERE id >= 1000"))
}

func failures(c *pgx.Conn) []any {
	got := []any{}
	for n := 0; n < 3; n++ {
		got = append(got,
			ask(c, "SELECT 1 / $1::int", 0),
			ask(c, "SELEC"),
			ask(c, "SELECT * FROM nowhere WHERE x = $1", 1),
			ask(c, "INSERT INTO items VALUES ($1) RETURNING id", 1))
	}
	return append(got, ask(c, "SELECT 'after'"))
}

func notices(*pgx.Conn) []any {
	got := []any{}
	config, err := pgx.ParseConfig(url)
	must(err)
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { got = append(got, notice.Message) }
	c, err := pgx.ConnectConfig(background, config)
	must(err)
	_, err = c.Exec(background, "DO $$ BEGIN RAISE NOTICE 'seen'; RAISE WARNING 'too'; END $$")
	must(err)
	must(c.Close(background))
	return got
}

func notifications(c *pgx.Conn) []any {
	listener := connect()
	defer listener.Close(background)
	_, err := listener.Exec(background, "LISTEN news")
	must(err)
	tx, err := c.Begin(background)
	must(err)
	ask(tx, "SELECT pg_notify('news', $1)", "never")
	must(tx.Rollback(background))
	ask(c, "SELECT pg_notify('news', $1)", "hello")
	one, err := listener.WaitForNotification(background)
	must(err)
	return []any{one.Channel, one.Payload}
}

func cancel(c *pgx.Conn) []any {
	other := connect()
	defer other.Close(background)
	ended := make(chan error)
	go func() {
		_, err := c.Exec(background, "DO $$ BEGIN PERFORM pg_sleep(600); END $$")
		ended <- err
	}()
	active := `/* pgproxy: primary */ SELECT 1 FROM pg_stat_activity
		WHERE query LIKE 'DO %600%' AND state = 'active' AND datname = current_database()`
	for len(ask(other, active).([][]any)) == 0 {
	}
	must(c.PgConn().CancelRequest(background))
	got := []any{failure(<-ended), ask(c, "SELECT 'after'")}
	// A deadline: pgx closes the connection.
	soon, done := context.WithTimeout(background, 200*time.Millisecond)
	defer done()
	_, err := other.Exec(soon, "SELECT pg_sleep(600)")
	return append(got, errors.Is(err, context.DeadlineExceeded), other.IsClosed())
}

func timeout(*pgx.Conn) []any {
	c, err := pgx.Connect(background, url+"&statement_timeout=300&application_name=go")
	must(err)
	defer c.Close(background)
	return []any{ask(c, "SELECT pg_sleep(600)"), ask(c, "SHOW application_name"), c.PgConn().ParameterStatus("application_name")}
}

func large(c *pgx.Conn) []any {
	text := strings.Repeat("0123456789", 300000)
	var answer string
	must(c.QueryRow(background, "SELECT $1::text || 'x'", text).Scan(&answer))
	return []any{answer == text+"x"}
}

func concurrent(c *pgx.Conn) []any {
	_, err := c.Exec(background, "CREATE TABLE counter AS SELECT 0 AS n")
	must(err)
	config, err := pgxpool.ParseConfig(url)
	must(err)
	config.MaxConns = 10
	pool, err := pgxpool.NewWithConfig(background, config)
	must(err)
	right := make([]bool, 200)
	group := sync.WaitGroup{}
	for n := range right {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			tx, err := pool.Begin(background)
			must(err)
			_, err = tx.Exec(background, "UPDATE counter SET n = n + $1::int", n)
			must(err)
			if n%5 == 0 {
				must(tx.Rollback(background))
			} else {
				must(tx.Commit(background))
			}
			var own int
			must(pool.QueryRow(background, "SELECT $1::int", n).Scan(&own))
			right[n] = own == n
		}(n)
	}
	group.Wait()
	pool.Close()
	all := true
	for _, one := range right {
		all = all && one
	}
	return []any{all, ask(c, "SELECT n FROM counter")}
}

// A server connection that is ended ends the client's; a new one goes on.
func reconnect(c *pgx.Conn) []any {
	ended := connect()
	got := []any{ask(ended, "SELECT pg_terminate_backend(pg_backend_pid())")}
	got = append(got, ask(ended, "SELECT 1"), ended.IsClosed())
	own := connect()
	_, err := own.Exec(background, "BEGIN")
	must(err)
	_, err = own.Exec(background, "INSERT INTO items VALUES (70, 'lost')")
	must(err)
	var pid int32
	must(own.QueryRow(background, "SELECT pg_backend_pid()").Scan(&pid))
	got = append(got, ask(c, "SELECT pg_terminate_backend($1::int, 10000)", pid))
	_, err = own.Exec(background, "SELECT 1")
	got = append(got, err != nil, own.IsClosed())
	config, err := pgxpool.ParseConfig(url)
	must(err)
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(background, config)
	must(err)
	defer pool.Close()
	for n := 0; n < 3; n++ {
		got = append(got, ask(pool, "SELECT count(*) FROM items WHERE id = $1::int", 70))
		_, err = pool.Exec(background, "SELECT pg_terminate_backend(pg_backend_pid())")
		got = append(got, failure(err))
	}
	return got
}

func reported(*pgx.Conn) []any {
	got := []any{}
	for _, script := range []string{
		"SELECT 1",
		"SET application_name = 'own'; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'ISO, DMY'",
		"BEGIN; SET TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; ROLLBACK",
		"BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; COMMIT",
		"SET search_path = one, two; SET TimeZone = 'Asia/Tokyo'; RESET TimeZone",
		"SET application_name = 'own'; RESET ALL",
	} {
		c := connect()
		_, err := c.PgConn().Exec(background, script).ReadAll()
		must(err)
		got = append(got, script)
		for _, name := range []string{"application_name", "client_encoding", "DateStyle", "TimeZone", "search_path"} {
			got = append(got, c.PgConn().ParameterStatus(name))
		}
		must(c.Close(background))
	}
	return got
}

// Names of SQL and of the protocol are of one name space; closed and prepared again.
func reprepared(c *pgx.Conn) []any {
	got := []any{}
	for n := 0; n < 3; n++ {
		_, err := c.Prepare(background, "again", fmt.Sprintf("SELECT %d + $1::int", n))
		got = append(got, failure(err), ask(c, "again", 1))
		_, err = c.Exec(background, "PREPARE again AS SELECT 1")
		got = append(got, failure(err))
		_, err = c.Exec(background, "PREPARE mine (int) AS SELECT $1 + 1")
		got = append(got, failure(err), ask(c, "EXECUTE mine (1)"), ask(c, "EXECUTE again (1)"))
		_, err = c.Exec(background, "DEALLOCATE mine")
		got = append(got, failure(err))
		must(c.Deallocate(background, "again"))
	}
	_, err := c.Exec(background, "DEALLOCATE ALL")
	got = append(got, failure(err))
	_, err = c.Exec(background, "DISCARD ALL")
	return append(got, failure(err))
}

func session(script []string) section {
	return func(c *pgx.Conn) []any {
		got := []any{}
		for _, sql := range script {
			got = append(got, []any{sql, ask(c, sql)})
		}
		return got
	}
}

// A section that panics is told from the others.
func guarded(run section) (got any) {
	defer func() {
		if why := recover(); why != nil {
			got = map[string]string{"raised": fmt.Sprint(why)}
		}
	}()
	c := connect()
	defer c.Close(background)
	return run(c)
}

func main() {
	mode, url = os.Args[1], os.Args[3]+"?default_query_exec_mode="+os.Args[1]
	c := connect()
	_, err := c.Exec(background, "CREATE TABLE items (id int PRIMARY KEY, name text)")
	must(err)
	must(c.Close(background))
	results := map[string]any{}
	for _, one := range []struct {
		name string
		run  section
	}{
		{"simple", simple}, {"parameters", parameters}, {"prepared", prepared},
		{"reprepared", reprepared}, {"transaction", transaction}, {"batch", batch},
		{"pipeline", pipeline}, {"cursor", cursor}, {"copy", copying}, {"errors", failures},
		{"notices", notices}, {"notifications", notifications}, {"cancel", cancel},
		{"timeout", timeout}, {"reconnect", reconnect}, {"reported", reported}, {"large", large},
		{"concurrent", concurrent},
	} {
		fmt.Fprintln(os.Stderr, one.name)
		results[one.name] = guarded(one.run)
	}
	file, err := os.ReadFile(os.Args[2])
	must(err)
	for _, part := range strings.Split(string(file), "\n== ")[1:] {
		name, script, _ := strings.Cut(part, "\n")
		statements := strings.FieldsFunc(script, func(letter rune) bool { return letter == '\n' })
		results[name+" pgx"] = guarded(session(statements))
	}
	must(json.NewEncoder(os.Stdout).Encode(results))
}
