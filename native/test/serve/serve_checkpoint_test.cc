// vmm serve: checkpoints of a live copy and of one that follows, and copies that begin at them.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "replay/log_schema.h"
#include "served_guest.h"

namespace node_mesh::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Directory {
 public:
  Directory() {
    std::string name = (fs::temp_directory_path() / "nm_serve_XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Directory() { fs::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string file(const json& checkpointed) const {
    return path / (checkpointed.at("manifest").get<std::string>() + ".checkpoint");
  }
  fs::path path;
};

TEST_CASE("a live copy is checkpointed, and another begins there, follows and goes live") {
  const Directory directory;
  ServedGuest primary;
  primary.start("echo");
  primary.send("go_live");
  REQUIRE(primary.await_console("type\n"));
  primary.type(1, "before ");
  REQUIRE(primary.await_console("before "));
  primary.send("checkpoint", {{"directory", directory.path.string()}, {"keep", 2}});
  const auto taken = primary.await("checkpointed");
  REQUIRE(taken);
  CHECK(fs::exists(directory.file(*taken)));
  CHECK(taken->at("pause_ms").get<double>() > 0);
  const std::string console_then = primary.console;
  primary.type(2, "and after ");
  REQUIRE(primary.await_console("after "));
  const std::vector<Bytes> committed = primary.chunks;
  const auto first = taken->at("chunk").get<std::size_t>();
  REQUIRE(first <= committed.size());
  primary.kill_now();

  ServedGuest heir;
  heir.console = console_then;
  const json ready = heir.start("echo", directory.file(*taken));
  CHECK(ready.at("chunk") == first);
  CHECK(ready.at("console_bytes") == console_then.size());
  for (std::size_t i = first; i < committed.size(); ++i)
    heir.send_chunk(committed[i]);
  heir.send("go_live");
  const auto live = heir.await("live");
  REQUIRE(live);
  CHECK(live->at("chunk") == committed.size());
  heir.chunks = committed;
  heir.type(1, "before ");  // applied before the checkpoint: not new
  heir.type(2, "and after ");
  heir.type(3, "q");
  REQUIRE(heir.await("ended"));
  CHECK(heir.console == "type\nbefore and after q\nbye after 18\n");

  ServedGuest whole;
  whole.start("echo");
  for (const Bytes& chunk : heir.chunks)
    whole.send_chunk(chunk);
  REQUIRE(whole.await("ended"));
  CHECK(whole.console == heir.console);
}

TEST_CASE("a checkpoint of what is not committed is none until it is") {
  const Directory directory;
  ServedGuest guest;
  guest.commits = false;
  guest.start("echo");
  guest.send("go_live");
  REQUIRE(guest.await_console("type\n"));
  guest.send("checkpoint", {{"directory", directory.path.string()}, {"keep", 2}});
  // An answer to something that comes later: the checkpoint was begun.
  guest.send("stats");
  REQUIRE(guest.await("stats"));
  for (const auto& entry : fs::directory_iterator(directory.path))
    CHECK(entry.path().extension() != ".checkpoint");
  guest.send("committed", {{"chunk", guest.chunks.size() - 1}});
  const auto taken = guest.await("checkpointed");
  REQUIRE(taken);
  CHECK(fs::exists(directory.file(*taken)));
}

TEST_CASE("a copy that follows is checkpointed too; old ones go") {
  const Directory directory;
  ServedGuest primary;
  primary.start("echo");
  primary.send("go_live");
  REQUIRE(primary.await_console("type\n"));
  ServedGuest follower;
  follower.start("echo");
  std::size_t fed = 0;
  json newest;
  for (std::uint64_t round = 1; round <= 4; ++round) {
    primary.type(round, "x");
    REQUIRE(primary.await("input_applied"));
    for (; fed < primary.chunks.size(); ++fed)
      follower.send_chunk(primary.chunks[fed]);
    follower.send("checkpoint", {{"directory", directory.path.string()}, {"keep", 1}});
    const auto taken = follower.await("checkpointed");
    REQUIRE(taken);
    CHECK(taken->at("chunk") == fed);
    newest = *taken;
  }
  std::size_t manifests = 0;
  for (const auto& entry : fs::directory_iterator(directory.path))
    manifests += entry.path().extension() == ".checkpoint" ? 1 : 0;
  CHECK(manifests == 1);
  CHECK(fs::exists(directory.file(newest)));
}

TEST_CASE("checkpoints that cannot be taken or used are refused, and what runs goes on") {
  const Directory directory;
  ServedGuest guest;
  guest.start("echo");
  guest.send("go_live");
  REQUIRE(guest.await_console("type\n"));
  guest.send("checkpoint", {{"directory", "/proc/nowhere"}, {"keep", 1}});
  const auto failed = guest.await("checkpoint_failed");
  REQUIRE(failed);
  CHECK(failed->at("message").get<std::string>().find("/proc/nowhere") != std::string::npos);
  guest.type(1, "q");
  REQUIRE(guest.await("ended"));

  guest.send("checkpoint", {{"directory", directory.path.string()}, {"keep", 1}});
  REQUIRE(guest.await("checkpoint_failed"));

  ServedGuest other;
  REQUIRE(other.await("hello"));
  other.send("checkpoint", {{"directory", directory.path.string()}, {"keep", 1}});
  CHECK(!other.await("checkpointed"));
  CHECK(!other.last_error.empty());
}

}  // namespace
}  // namespace node_mesh::test
