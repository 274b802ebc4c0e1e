// pgjdbc, and HikariCP above it, at their usual work. Prints what they got as JSON.
// Arguments: options of the JDBC URL, the file of sessions, and the database's URL.

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PSQLException;

public class Drivers {
  static String url;

  interface Work {
    void run() throws Exception;
  }

  interface Section {
    void run(Connection connection, List<Object> got) throws Exception;
  }

  static Connection connect(String... more) throws SQLException {
    return DriverManager.getConnection(url + String.join("", more));
  }

  static Object failure(Work work) throws Exception {
    try {
      work.run();
    } catch (BatchUpdateException error) {
      return List.of(error.getSQLState(), error.getUpdateCounts().length);
    } catch (PSQLException error) {
      String text = error.getServerErrorMessage() == null ? "" : error.getServerErrorMessage().getMessage();
      return List.of(error.getSQLState(), text);
    }
    return "no error";
  }

  static List<Object> rows(ResultSet results) throws SQLException {
    List<Object> rows = new ArrayList<>();
    ResultSetMetaData columns = results.getMetaData();
    while (results.next()) {
      List<Object> row = new ArrayList<>();
      for (int n = 1; n <= columns.getColumnCount(); n++) row.add(results.getString(n));
      rows.add(row);
    }
    results.close();
    return rows;
  }

  static List<Object> ask(Connection connection, String sql, Object... values) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int n = 0; n < values.length; n++) statement.setObject(n + 1, values[n]);
      return rows(statement.executeQuery());
    }
  }

  static void simple(Connection connection, List<Object> got) throws Exception {
    try (Statement statement = connection.createStatement()) {
      got.add(rows(statement.executeQuery("SELECT 1, NULL, 'süß', 1.50::numeric, now() IS NULL")));
      got.add(statement.executeUpdate("INSERT INTO items VALUES (1, 'a'), (2, 'b')"));
      boolean more = statement.execute("SELECT 'first'; UPDATE items SET name = name; SELECT 'third'");
      while (more || statement.getUpdateCount() >= 0) {
        got.add(more ? rows(statement.getResultSet()) : (Object) statement.getUpdateCount());
        more = statement.getMoreResults();
      }
      statement.executeUpdate("INSERT INTO items VALUES (3, 'c')", Statement.RETURN_GENERATED_KEYS);
      got.add(rows(statement.getGeneratedKeys()));
    }
    got.add(rows(connection.getMetaData().getTables(null, "public", "%", new String[] {"TABLE"})).size());
    got.add(rows(connection.getMetaData().getPrimaryKeys(null, null, "items")).size());
    got.add(rows(connection.getMetaData().getColumns(null, "public", "items", null)).size());
    got.add(connection.isValid(5));
  }

  static void parameters(Connection connection, List<Object> got) throws Exception {
    String sql = "SELECT ?::int8, ?::text, ?::text, ?::bool, encode(?, 'hex'), ?::float8, ?::int[]";
    for (int round = 0; round < 8; round++) {  // after five pgjdbc prepares by name and takes binary
      try (PreparedStatement statement = connection.prepareStatement(sql)) {
        statement.setLong(1, 7L + round);
        statement.setString(2, "x' \\ €");
        statement.setNull(3, Types.VARCHAR);
        statement.setBoolean(4, true);
        statement.setBytes(5, new byte[] {0, -1});
        statement.setDouble(6, 1.5);
        statement.setArray(7, connection.createArrayOf("int4", new Object[] {1, 2, round}));
        got.add(rows(statement.executeQuery()));
      }
    }
    got.add(ask(connection, "SELECT count(*) FROM items WHERE id = ANY (?)",
        connection.createArrayOf("int4", new Object[] {1, 2, 99})));
  }

  static void prepared(Connection connection, List<Object> got) throws Exception {
    try (PreparedStatement add = connection.prepareStatement("INSERT INTO items VALUES (?, ?)");
        PreparedStatement pick = connection.prepareStatement("SELECT name FROM items WHERE id = ?")) {
      for (int n = 10; n < 25; n++) {
        add.setInt(1, n);
        add.setString(2, "prepared " + n);
        got.add(add.executeUpdate());
        pick.setInt(1, n);
        got.add(rows(pick.executeQuery()));
      }
      got.add(failure(add::executeUpdate));
      got.add(rows(pick.executeQuery()));
      if (url.contains("preferQueryMode=simple")) return;  // there it would run the statement
      got.add(pick.getParameterMetaData().getParameterTypeName(1));
      got.add(add.getParameterMetaData().getParameterCount());
      got.add(pick.getMetaData().getColumnName(1));
    }
  }

  static void transaction(Connection connection, List<Object> got) throws Exception {
    String count = "SELECT count(*) FROM items WHERE name = 'transaction'";
    connection.setAutoCommit(false);
    for (boolean commit : new boolean[] {false, true}) {
      ask(connection, "INSERT INTO items VALUES (?, 'transaction') RETURNING id", 30);
      Savepoint savepoint = connection.setSavepoint();
      got.add(failure(() -> ask(connection, "SELECT 1 / ?", 0)));
      got.add(failure(() -> ask(connection, "SELECT ?::int", 1)));  // autosave: no error
      connection.rollback(savepoint);
      got.add(ask(connection, count));
      if (commit) connection.commit();
      else connection.rollback();
      got.add(ask(connection, count));
    }
    connection.commit();
    got.add(failure(() -> ask(connection, "SELECT 1 / 0")));
    got.add(failure(connection::commit));
    connection.rollback();
    connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
    got.add(ask(connection, "SHOW transaction_isolation"));
    connection.commit();
    connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
    connection.setReadOnly(true);
    got.add(ask(connection, count));
    got.add(failure(() -> ask(connection, "DELETE FROM items RETURNING id")));
    connection.rollback();
    connection.setReadOnly(false);
    connection.setAutoCommit(true);
    got.add(ask(connection, count));
  }

  static void batch(Connection connection, List<Object> got) throws Exception {
    for (int round = 0; round < 2; round++) {
      try (PreparedStatement add = connection.prepareStatement("INSERT INTO items VALUES (?, ?)")) {
        for (int n = 0; n < 500; n++) {
          add.setInt(1, 1000 + 500 * round + n);
          add.setString(2, "batch");
          add.addBatch();
        }
        got.add(add.executeBatch().length);
        for (int n = 0; n < 10; n++) {
          add.setInt(1, n == 5 ? 1 : 5000 + n);
          add.setString(2, "refused");
          add.addBatch();
        }
        got.add(failure(add::executeBatch));
      }
      got.add(ask(connection, "SELECT count(*) FROM items WHERE name IN ('batch', 'refused')"));
    }
    try (Statement statement = connection.createStatement()) {
      statement.addBatch("UPDATE items SET name = 'batched' WHERE name = 'batch'");
      statement.addBatch("DELETE FROM items WHERE name = 'batched'");
      statement.addBatch("INSERT INTO items VALUES (6000, 'batch')");
      for (int count : statement.executeBatch()) got.add(count);
    }
    try (PreparedStatement add = connection.prepareStatement(
        "INSERT INTO items VALUES (?, 'keys')", Statement.RETURN_GENERATED_KEYS)) {
      for (int n = 0; n < 5; n++) {
        add.setInt(1, 7000 + n);
        add.addBatch();
      }
      add.executeBatch();
      got.add(rows(add.getGeneratedKeys()));
    }
  }

  static void cursor(Connection connection, List<Object> got) throws Exception {
    connection.setAutoCommit(false);
    for (int round = 0; round < 7; round++) {
      try (PreparedStatement statement =
          connection.prepareStatement("SELECT n FROM generate_series(?::int, 105) n")) {
        statement.setFetchSize(10);
        statement.setInt(1, 1);
        ResultSet results = statement.executeQuery();
        int sum = 0;
        while (results.next()) {
          sum += results.getInt(1);
          // Another statement between the parts.
          if (sum == 6) got.add(ask(connection, "SELECT 'between'"));
          if (sum == 66 && round == 3) break;
        }
        got.add(sum);
      }
    }
    try (Statement statement = connection.createStatement()) {
      statement.setMaxRows(3);
      got.add(rows(statement.executeQuery("SELECT n FROM generate_series(1, 10) n")));
    }
    connection.commit();
    connection.setAutoCommit(true);
  }

  static void copy(Connection connection, List<Object> got) throws Exception {
    StringBuilder lines = new StringBuilder();
    for (int n = 10000; n < 30000; n++) lines.append(n + "\tcopied " + n + " \\\\ ä\n");
    var copies = connection.unwrap(PGConnection.class).getCopyAPI();
    got.add(copies.copyIn("COPY items FROM STDIN", new StringReader(lines.toString())));
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    got.add(copies.copyOut(
        "COPY (SELECT * FROM items WHERE id >= 10000 ORDER BY id) TO STDOUT", out));
    got.add(out.toString("UTF-8").equals(lines.toString()));
    got.add(failure(() -> copies.copyIn("COPY items FROM STDIN", new StringReader("nonsense\n"))));
    var cancelled = copies.copyIn("COPY items FROM STDIN");
    byte[] line = "40000\tnever\n".getBytes();
    cancelled.writeToCopy(line, 0, line.length);
    cancelled.cancelCopy();
    got.add(ask(connection, "SELECT count(*) FROM items WHERE id >= 10000"));
    ask(connection, "DELETE FROM items WHERE id >= 10000 RETURNING 1");
  }

  static void errors(Connection connection, List<Object> got) throws Exception {
    for (int round = 0; round < 7; round++) {
      got.add(failure(() -> ask(connection, "SELECT 1 / ?", 0)));
      got.add(failure(() -> ask(connection, "SELEC")));
      got.add(failure(() -> ask(connection, "SELECT * FROM nowhere WHERE x = ?", 1)));
      got.add(failure(() -> ask(connection, "INSERT INTO items VALUES (?) RETURNING 1", 1)));
      got.add(failure(() -> ask(connection, "SELECT ?::int", "x")));
    }
    got.add(ask(connection, "SELECT 'after'"));
  }

  static void notices(Connection connection, List<Object> got) throws Exception {
    try (Statement statement = connection.createStatement()) {
      statement.execute("DO $$ BEGIN RAISE NOTICE 'seen'; RAISE WARNING 'too'; END $$");
      for (SQLWarning one = statement.getWarnings(); one != null; one = one.getNextWarning())
        got.add(one.getMessage());
    }
  }

  static void calls(Connection connection, List<Object> got) throws Exception {
    if (url.contains("preferQueryMode=simple")) return;  // there the types do not match
    try (CallableStatement call = connection.prepareCall("{ ? = call upper(?) }")) {
      call.registerOutParameter(1, Types.VARCHAR);
      call.setString(2, "loud");
      call.execute();
      got.add(call.getString(1));
    }
  }

  static void notifications(Connection unused, List<Object> got) throws Exception {
    try (Connection listener = connect(); Connection other = connect()) {
      listener.createStatement().execute("LISTEN news");
      other.setAutoCommit(false);
      ask(other, "SELECT pg_notify('news', ?)", "never");
      other.rollback();
      ask(other, "SELECT pg_notify('news', ?)", "hello");
      other.commit();
      for (PGNotification one : listener.unwrap(PGConnection.class).getNotifications(10000))
        got.add(List.of(one.getName(), one.getParameter()));
    }
  }

  static void cancel(Connection connection, List<Object> got) throws Exception {
    try (Statement statement = connection.createStatement()) {
      Thread canceller = new Thread(() -> {
        try (Connection other = connect()) {
          String active = "/* pgproxy: primary */ SELECT 1 FROM pg_stat_activity"
              + " WHERE query LIKE 'DO%600%' AND state = 'active' AND datname = current_database()";
          while (ask(other, active).isEmpty()) Thread.onSpinWait();
          statement.cancel();
        } catch (SQLException error) {
          throw new IllegalStateException(error);
        }
      });
      canceller.start();
      got.add(failure(() -> statement.execute("DO $$ BEGIN PERFORM pg_sleep(600); END $$")));
      canceller.join();
      got.add(ask(connection, "SELECT 'after'"));
    }
  }

  static void reprepared(Connection connection, List<Object> got) throws Exception {
    try (Statement statement = connection.createStatement()) {
      for (int round = 0; round < 3; round++) {
        for (int n = 0; n < 7; n++) got.add(ask(connection, "SELECT " + round + " + ?::int", n));
        // Names that pgjdbc gives too.
        String name = "\"S_" + (round + 1) + "\"";
        statement.execute("PREPARE mine (int) AS SELECT $1 + 1");
        got.add(rows(statement.executeQuery("EXECUTE mine (1)")));
        statement.execute("DEALLOCATE mine");
        got.add(failure(() -> statement.executeQuery("EXECUTE mine (1)")));
        got.add(failure(() -> statement.execute("DEALLOCATE " + name + "_not_there")));
        statement.execute(round == 1 ? "DISCARD ALL" : "DEALLOCATE ALL");
        for (int n = 0; n < 7; n++) got.add(ask(connection, "SELECT " + round + " + ?::int", n));
      }
    }
  }

  static void autosave(Connection connection, List<Object> got) throws Exception {
    connection.setAutoCommit(false);
    for (int round = 0; round < 8; round++) {  // past prepareThreshold
      got.add(failure(() -> ask(connection, "SELECT name FROM items WHERE id = ?", 1)));
      got.add(failure(() -> ask(connection, "SELECT 1 / ?", 0)));
      got.add(failure(() -> ask(connection, "SELECT name FROM items WHERE id = ?", 2)));
      // The column's type changes below a prepared statement: autosave heals it.
      if (round == 6) {
        got.add(failure(() -> connection.createStatement().execute("ALTER TABLE items ADD extra int")));
        got.add(failure(() -> ask(connection, "SELECT * FROM items WHERE id = ?", 1)));
      } else {
        got.add(failure(() -> ask(connection, "SELECT * FROM items WHERE id = ?", 1)));
      }
      connection.rollback();
    }
  }

  static void timeouts(Connection connection, List<Object> got) throws Exception {
    try (Statement statement = connection.createStatement()) {
      statement.setQueryTimeout(1);
      got.add(failure(() -> statement.executeQuery("SELECT pg_sleep(600)")));
      got.add(rows(statement.executeQuery("SELECT 'in time'")));
      statement.setQueryTimeout(0);
      statement.execute("SET statement_timeout = 400");
      got.add(failure(() -> statement.executeQuery("SELECT pg_sleep(600)")));
      statement.execute("RESET statement_timeout");
      got.add(rows(statement.executeQuery("SHOW statement_timeout")));
    }
    try (Connection own = connect("&socketTimeout=1")) {
      got.add(failure(() -> ask(own, "SELECT pg_sleep(3)")));
      got.add(own.isClosed());
    }
    got.add(ask(connection, "SELECT 'after'"));
  }

  static Object state(Work work) throws Exception {
    try {
      work.run();
    } catch (SQLException error) {
      return error.getSQLState();
    }
    return "no error";
  }

  static void reconnect(Connection connection, List<Object> got) throws Exception {
    try (Connection own = connect()) {
      got.add(state(() -> ask(own, "SELECT pg_terminate_backend(pg_backend_pid())")));
      got.add(state(() -> ask(own, "SELECT 1")) != "no error");
      got.add(own.isClosed());
      got.add(own.isValid(5));
    }
    try (Connection own = connect()) {
      own.setAutoCommit(false);
      ask(own, "INSERT INTO items VALUES (70, 'lost') RETURNING id");
      Object pid = Integer.valueOf(
          ((List<?>) ask(own, "SELECT pg_backend_pid()").get(0)).get(0).toString());
      got.add(ask(connection, "SELECT pg_terminate_backend(?, 10000)", pid));
      got.add(state(() -> ask(own, "SELECT 1")) != "no error");
    }
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(url);
    config.setMaximumPoolSize(1);
    try (HikariDataSource pool = new HikariDataSource(config)) {
      for (int n = 0; n < 3; n++) {
        try (Connection own = pool.getConnection()) {
          got.add(ask(own, "SELECT count(*) FROM items WHERE id = ?", 70));
          got.add(state(() -> ask(own, "SELECT pg_terminate_backend(pg_backend_pid())")));
        }
      }
    }
  }

  static void reported(Connection unused, List<Object> got) throws Exception {
    for (String script : List.of(
        "SELECT 1",
        "SET application_name = 'own'; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'ISO, DMY'",
        "BEGIN; SET TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; ROLLBACK",
        "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'own'; COMMIT",
        "SET search_path = one, two; SET TimeZone = 'Asia/Tokyo'; RESET TimeZone",
        "SET application_name = 'own'; RESET ALL")) {
      try (Connection own = connect()) {
        own.createStatement().execute(script);
        Map<String, String> seen = own.unwrap(PGConnection.class).getParameterStatuses();
        for (String name : List.of("application_name", "DateStyle", "TimeZone", "client_encoding", "search_path"))
          got.add(name + "=" + seen.get(name));
        own.setSchema("two");
        got.add(own.getSchema());
        got.add(ask(own, "SELECT name FROM t"));
        own.setClientInfo("ApplicationName", "from the client");
        got.add(ask(own, "SHOW application_name"));
        own.setNetworkTimeout(Runnable::run, 20000);
      }
    }
  }

  /** The statements of a section of the file. */
  static Section session(List<String> script) {
    return (connection, got) -> {
      for (String sql : script) {
        List<Object> step = new ArrayList<>();
        got.add(step);
        step.add(sql);
        try (Statement statement = connection.createStatement()) {
          Object ended = failure(() -> {
            boolean more = statement.execute(sql);
            while (more || statement.getUpdateCount() >= 0) {
              step.add(more ? rows(statement.getResultSet()) : (Object) statement.getUpdateCount());
              more = statement.getMoreResults();
            }
          });
          step.add(ended);
        }
      }
    };
  }

  static void large(Connection connection, List<Object> got) throws Exception {
    String text = "0123456789".repeat(300000);
    List<Object> answer = ask(connection, "SELECT ?::text || 'x'", text);
    got.add(answer.equals(List.of(List.of(text + "x"))));
  }

  static void concurrent(Connection connection, List<Object> got) throws Exception {
    connection.createStatement().execute("CREATE TABLE counter AS SELECT 0 AS n");
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(url);
    config.setMaximumPoolSize(8);
    config.setAutoCommit(false);
    ExecutorService threads = Executors.newFixedThreadPool(8);
    try (HikariDataSource pool = new HikariDataSource(config)) {
      List<Callable<Boolean>> steps = new ArrayList<>();
      for (int step = 0; step < 200; step++) {
        int n = step;
        steps.add(() -> {
          try (Connection own = pool.getConnection()) {
            try (PreparedStatement add = own.prepareStatement("UPDATE counter SET n = n + ?")) {
              add.setInt(1, n);
              add.executeUpdate();
            }
            if (n % 5 == 0) own.rollback();
            else own.commit();
            return ask(own, "SELECT ?::int", n).equals(List.of(List.of("" + n)));
          }
        });
      }
      boolean right = true;
      for (Future<Boolean> one : threads.invokeAll(steps)) right &= one.get();
      got.add(right);
    } finally {
      threads.shutdown();
    }
    got.add(ask(connection, "SELECT n FROM counter"));
  }

  static String json(Object value) {
    if (value instanceof Map<?, ?> map) {
      List<String> parts = new ArrayList<>();
      map.forEach((key, part) -> parts.add(json(key) + ":" + json(part)));
      return "{" + String.join(",", parts) + "}";
    }
    if (value instanceof List<?> list)
      return "[" + String.join(",", list.stream().map(Drivers::json).toList()) + "]";
    if (value == null || value instanceof Number || value instanceof Boolean) return "" + value;
    StringBuilder text = new StringBuilder("\"");
    for (char letter : value.toString().toCharArray())
      text.append(letter < ' ' || letter > '~' || letter == '"' || letter == '\\'
          ? String.format("\\u%04x", (int) letter) : "" + letter);
    return text.append('"').toString();
  }

  public static void main(String[] arguments) throws Exception {
    URI uri = new URI(arguments[2]);
    url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath()
        + "?user=" + uri.getUserInfo() + "&" + arguments[0];
    Map<String, Section> sections = new LinkedHashMap<>();
    sections.put("simple", Drivers::simple);
    sections.put("parameters", Drivers::parameters);
    sections.put("prepared", Drivers::prepared);
    sections.put("transaction", Drivers::transaction);
    sections.put("batch", Drivers::batch);
    sections.put("cursor", Drivers::cursor);
    sections.put("copy", Drivers::copy);
    sections.put("errors", Drivers::errors);
    sections.put("notices", Drivers::notices);
    sections.put("calls", Drivers::calls);
    sections.put("notifications", Drivers::notifications);
    sections.put("cancel", Drivers::cancel);
    sections.put("reprepared", Drivers::reprepared);
    sections.put("autosave", Drivers::autosave);
    sections.put("timeouts", Drivers::timeouts);
    sections.put("reconnect", Drivers::reconnect);
    sections.put("reported", Drivers::reported);
    sections.put("large", Drivers::large);
    sections.put("concurrent", Drivers::concurrent);
    for (String part : Files.readString(Path.of(arguments[1])).split("\n== ")) {
      List<String> lines = part.lines().filter(line -> !line.isEmpty()).toList();
      if (lines.get(0).matches("\\w+"))
        sections.put(lines.get(0) + " pgjdbc", session(lines.subList(1, lines.size())));
    }
    Map<String, Object> results = new LinkedHashMap<>();
    try (Connection connection = connect()) {
      connection.createStatement().execute("CREATE TABLE items (id int PRIMARY KEY, name text)");
    }
    for (Map.Entry<String, Section> entry : sections.entrySet()) {
      System.err.println(entry.getKey());
      List<Object> got = new ArrayList<>();
      results.put(entry.getKey(), got);
      // One of its own for each: what it may have pinned ends with it.
      try (Connection connection = connect()) {
        entry.getValue().run(connection, got);
      } catch (Exception error) {
        error.printStackTrace();
        results.put(entry.getKey(), Map.of("raised", error.toString()));
      }
    }
    System.out.println(json(results));
  }
}
