// Record and replay, each tiny guest under many seeds: the replay writes the same console bytes and
// has the same state at each digest, and a log that was tampered with is found out.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdlib>

#include "recorded_guest.h"

namespace node_mesh::test {
namespace {

struct Scene {
  const char* guest;
  const char* typed;
  std::uint64_t steps_max;
};

constexpr Scene scenes[] = {
    {"hello", "", 10'000'000},
    {"read_time", "", 10'000'000},
    {"pit_timer", "", 10'000'000},
    {"lapic_timer", "", 10'000'000},
    {"exceptions", "", 10'000'000},
    {"user_syscalls", "", 10'000'000},
    {"user_spin", "", 10'000'000},
    {"user_memory", "", 10'000'000},
    {"user_states", "", 10'000'000},
    {"two_mappings", "", 10'000'000},
    {"attack_plain", "", 10'000'000},
    {"attack_crossing", "", 10'000'000},
    {"attack_generated", "", 10'000'000},
    {"attack_hidden", "", 10'000'000},
    {"self_modifying", "", 10'000'000},
    {"triple_fault", "", 10'000'000},
    {"echo", "The quick brown fox jumps over the lazy dog, again and again; then it stops. q",
     10'000'000},
    {"echo", "no end to this", 10'000'000},
};

std::uint64_t first_seed() {
  const char* text = std::getenv("NODE_MESH_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

TEST_CASE("what was recorded replays, twice") {
  for (const Scene& scene : scenes) {
    for (std::uint64_t seed = first_seed(); seed < first_seed() + 8; ++seed) {
      CAPTURE(scene.guest);
      CAPTURE(seed);
      const Recording recording = record(scene.guest, scene.typed, seed, scene.steps_max);
      for (int round = 0; round < 2; ++round) {
        Replay replay(scene.guest);
        const auto status = replay.apply_all(recording.chunks);
        CHECK_MESSAGE(replay.replayer.divergence().what.empty(), replay.replayer.divergence().what);
        CHECK_MESSAGE(status == Replayer::Status::ended, replay.error);
        CHECK(replay.guest.console() == recording.console);
        CHECK(replay.replayer.end() == recording.end);
        CHECK(replay.replayer.totals().events == recording.totals.events);
        REQUIRE(replay.replayer.last_digest());
        CHECK(digest_summary(*replay.replayer.last_digest()) == recording.digest);
      }
    }
  }
}

TEST_CASE("each chunk stops the machine where it ends, and any position can be stopped at") {
  const Recording recording = record("echo", "some text to see q", 5, 10'000'000);
  RandomClock random(9);
  Replay replay("echo");
  for (const Bytes& bytes : recording.chunks) {
    const auto chunk = decode_chunk(bytes);
    REQUIRE(chunk);
    if (chunk->last.steps > chunk->first.steps + 2) {
      const Position until{
          chunk->first.steps + 1 + random.draw(chunk->last.steps - chunk->first.steps - 1), 0};
      REQUIRE(replay.apply(*chunk, until) == Replayer::Status::stopped);
      CHECK(replay.guest.machine().position() == until);
    }
    const auto status = replay.apply(*chunk);
    REQUIRE((status == Replayer::Status::done || status == Replayer::Status::ended));
    CHECK(replay.guest.machine().position() == chunk->last);
    CHECK(replay.guest.console().size() == chunk->console_bytes);
  }
  CHECK(replay.guest.console() == recording.console);
}

TEST_CASE("a copy that replayed a part goes live there, and the whole replays") {
  const std::string_view typed = "one two three q";
  const Recording recording = record("echo", typed, 3, 10'000'000);
  const std::size_t half = recording.chunks.size() / 2;
  REQUIRE(half > 0);
  std::vector<Bytes> chunks(recording.chunks.begin(),
                            recording.chunks.begin() + static_cast<std::ptrdiff_t>(half));
  Replay copy("echo");
  REQUIRE(copy.apply_all(chunks) == Replayer::Status::done);

  struct Sink final : ChunkSink {
    void chunk(std::uint64_t number, Bytes bytes) override {
      CHECK(number == chunks->size());
      chunks->push_back(std::move(bytes));
    }
    std::vector<Bytes>* chunks = nullptr;
  } sink;
  sink.chunks = &chunks;
  RandomClock clock(77);
  Recorder recorder(copy.guest.machine(), copy.digest, clock, {}, &sink);
  recorder.start({copy.replayer.next_chunk(), clock.now_ns(), copy.replayer.ns_per_step(),
                  copy.replayer.inputs()});
  // Everything is sent again by somebody who does not know what had been applied.
  CHECK(!recorder.input(7, 1, as_byte_span("x")));
  CHECK(recorder.input(7, 1000, as_byte_span("q")));
  Recorder::Pause pause{};
  while ((pause = recorder.run()) != Recorder::Pause::ended) {
    clock.sleep_until(recorder.wake_host_ns() == UINT64_MAX ? 0 : recorder.wake_host_ns());
  }
  recorder.finish(EndReason::poweroff);

  Replay whole("echo");
  CHECK(whole.apply_all(chunks) == Replayer::Status::ended);
  CHECK(whole.guest.console() == copy.guest.console());
  CHECK(whole.guest.console().starts_with("type\n"));
}

// The first event of a kind in a recording, changed.
template <typename Body, typename Change>
std::vector<Bytes> tampered(std::vector<Bytes> chunks, Change change) {
  for (Bytes& bytes : chunks) {
    auto chunk = decode_chunk(bytes);
    REQUIRE(chunk);
    for (Event& event : chunk->events) {
      auto* body = std::get_if<Body>(&event.body);
      if (body == nullptr || !change(*body)) continue;
      bytes = encode_chunk(*chunk);
      return chunks;
    }
  }
  FAIL("nothing to tamper with");
  return chunks;
}

TEST_CASE("a log that tells another story is found out") {
  const Recording recording = record("echo", "abcdefgh q", 21, 10'000'000);
  SUBCASE("another input") {
    Replay replay("echo");
    CHECK(replay.apply_all(tampered<InputEvent>(recording.chunks, [](InputEvent& input) {
      input.bytes[0] ^= std::byte{4};
      return true;
    })) == Replayer::Status::diverged);
    const Divergence& found = replay.replayer.divergence();
    CHECK((!found.devices.empty() || !found.registers.empty()));
  }
  SUBCASE("another register") {
    Replay replay("echo");
    CHECK(replay.apply_all(tampered<DigestEvent>(recording.chunks, [](DigestEvent& digest) {
      digest.registers[15] += 1;
      return true;
    })) == Replayer::Status::diverged);
    const Divergence& found = replay.replayer.divergence();
    REQUIRE(found.registers.size() == 1);
    CHECK(found.registers[0].name == "r15");
    CHECK(found.registers[0].recorded == found.registers[0].replayed + 1);
    CHECK(found.pages.empty());
  }
  SUBCASE("another page") {
    std::uint64_t gfn = 0;
    Replay replay("echo");
    CHECK(replay.apply_all(tampered<DigestEvent>(recording.chunks, [&](DigestEvent& digest) {
      if (digest.pages.empty()) return false;
      gfn = digest.pages[0].gfn;
      digest.pages[0].hash += 1;
      digest.memory_sum += 1;
      return true;
    })) == Replayer::Status::diverged);
    CHECK(replay.replayer.divergence().pages == std::vector<std::uint64_t>{gfn});
  }
  SUBCASE("a chunk that is missing") {
    auto chunks = recording.chunks;
    REQUIRE(chunks.size() > 1);
    chunks.erase(chunks.begin());
    Replay replay("echo");
    CHECK(replay.apply_all(chunks) == Replayer::Status::diverged);
    CHECK(!replay.error.empty());
  }
  SUBCASE("another guest") {
    Replay replay("hello");
    CHECK(replay.apply_all(recording.chunks) == Replayer::Status::diverged);
  }
}

}  // namespace
}  // namespace node_mesh::test
