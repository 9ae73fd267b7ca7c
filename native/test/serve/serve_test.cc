// vmm serve: a primary and its backup, failover in the middle, flow control, and bad nodes.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "replay/log_schema.h"
#include "served_guest.h"

namespace node_mesh::test {
namespace {

using nlohmann::json;

TEST_CASE("a guest lives, takes input once, and ends") {
  ServedGuest guest;
  guest.start("echo");
  guest.send("go_live");
  const auto live = guest.await("live");
  REQUIRE(live);
  CHECK(live->at("chunk") == 0);
  REQUIRE(guest.await_console("type\n"));
  CHECK(guest.chunks_before_output >= 1);
  guest.type(1, "hello ");
  REQUIRE(guest.await("input_applied"));
  guest.type(1, "hello ");
  REQUIRE(guest.await("input_applied"));
  guest.type(2, "again q");
  const auto ended = guest.await("ended");
  REQUIRE(ended);
  CHECK(ended->at("reason") == "poweroff");
  CHECK(guest.console == "type\nhello again q\nbye after 13\n");
  guest.send("stats");
  const auto stats = guest.await("stats");
  REQUIRE(stats);
  CHECK(stats->at("console_bytes") == guest.console.size());
  CHECK(stats->at("events").at("input") == 2);
  guest.send("shutdown");
  CHECK(guest.wait_for_exit() == 0);
}

TEST_CASE("a backup follows, takes over where the log ends, and is followed itself") {
  ServedGuest primary;
  primary.start("echo");
  primary.send("go_live");
  REQUIRE(primary.await_console("type\n"));
  primary.type(1, "before ");
  REQUIRE(primary.await_console("before "));
  const std::vector<Bytes> committed = primary.chunks;
  const std::string seen = primary.console;
  primary.type(2, "lost ");  // not in the part of the log that reaches the backup
  REQUIRE(primary.await_console("lost "));
  primary.kill_now();

  ServedGuest backup;
  backup.start("echo");
  for (const Bytes& chunk : committed)
    backup.send_chunk(chunk);
  backup.send("go_live");
  const auto live = backup.await("live");
  REQUIRE(live);
  CHECK(live->at("chunk") == committed.size());
  CHECK(backup.console == seen);
  backup.chunks = committed;
  backup.type(1, "before ");  // sent again by a client that had no answer
  backup.type(2, "after q");
  REQUIRE(backup.await("ended"));
  CHECK(backup.console == "type\nbefore after q\nbye after 14\n");

  ServedGuest late;
  late.start("echo");
  for (const Bytes& chunk : backup.chunks)
    late.send_chunk(chunk);
  const auto ended = late.await("ended");
  REQUIRE(ended);
  CHECK(ended->at("reason") == "poweroff");
  CHECK(late.console == backup.console);
}

TEST_CASE("a guest that is stopped ends so on every copy") {
  ServedGuest guest;
  guest.start("user_spin");
  guest.send("go_live");
  REQUIRE(guest.await("live"));
  guest.send("control", {{"action", "stop"}});
  const auto ended = guest.await("ended");
  REQUIRE(ended);
  const std::string reason = ended->at("reason");
  CHECK((reason == "stopped" || reason == "poweroff"));

  ServedGuest copy;
  copy.start("user_spin");
  for (const Bytes& chunk : guest.chunks)
    copy.send_chunk(chunk);
  const auto copy_ended = copy.await("ended");
  REQUIRE(copy_ended);
  CHECK(copy_ended->at("reason") == reason);
}

TEST_CASE("a guest whose chunks are not committed waits, and goes on when they are") {
  ServedGuest guest;
  guest.commits = false;
  guest.start("echo");
  guest.send("go_live");
  REQUIRE(guest.await_console("type\n"));
  // Past the second that may be uncommitted, input waits for the guest and the guest for the
  // commit.
  ::usleep(1'200'000);
  guest.type(1, "abc");
  guest.send("stats");
  const auto stats = guest.await("stats");
  REQUIRE(stats);
  CHECK(guest.console == "type\n");
  CHECK(stats->at("uncommitted_bytes") > 0);
  guest.commits = true;
  guest.send("committed", {{"chunk", guest.chunks.size() - 1}});
  REQUIRE(guest.await_console("abc"));
}

TEST_CASE("a diverging copy says so and is of no further use") {
  ServedGuest primary;
  primary.start("echo");
  primary.send("go_live");
  REQUIRE(primary.await_console("type\n"));
  primary.type(1, "xyz q");
  REQUIRE(primary.await("ended"));
  bool changed = false;
  for (Bytes& bytes : primary.chunks) {
    auto chunk = decode_chunk(bytes);
    REQUIRE(chunk);
    for (Event& event : chunk->events) {
      if (auto* input = std::get_if<InputEvent>(&event.body)) {
        input->bytes.push_back(std::byte{'z'});
        changed = true;
      }
    }
    bytes = encode_chunk(*chunk);
  }
  REQUIRE(changed);
  ServedGuest copy;
  copy.start("echo");
  for (const Bytes& chunk : primary.chunks)
    copy.send_chunk(chunk);
  const auto diverged = copy.await("diverged");
  REQUIRE(diverged);
  CHECK(!diverged->at("what").get<std::string>().empty());
  copy.send("shutdown");
  CHECK(copy.wait_for_exit() == 0);
}

TEST_CASE("bad nodes: an error frame, and status 1") {
  const auto refused = [](auto act) {
    ServedGuest guest;
    act(guest);
    CHECK(!guest.await("nothing of this kind"));
    CHECK(guest.last_error.starts_with("Cannot "));
    CHECK(guest.wait_for_exit() == 1);
  };
  refused([](ServedGuest& guest) { guest.send_raw(Bytes(64, std::byte{0xff})); });
  refused([](ServedGuest& guest) { guest.send("nothing"); });
  refused([](ServedGuest& guest) { guest.send("go_live"); });
  refused([](ServedGuest& guest) { guest.send_chunk(Bytes(10)); });
  refused([](ServedGuest& guest) {
    guest.start("echo");
    guest.type(1, "too early");
  });
  refused([](ServedGuest& guest) {
    guest.start("echo");
    guest.send_chunk(Bytes(100, std::byte{1}));
  });
  refused([](ServedGuest& guest) {
    guest.start("echo");
    guest.send("committed", {{"chunk", 5}});
  });
}

TEST_CASE("it goes when its node goes, even in the middle of a busy guest") {
  for (const char* name : {"echo", "user_spin"}) {
    ServedGuest guest;
    guest.start(name);
    guest.send("go_live");
    REQUIRE(guest.await("live"));
    guest.close_stream();
    CHECK(guest.wait_for_exit() == 0);
  }
}

}  // namespace
}  // namespace node_mesh::test
