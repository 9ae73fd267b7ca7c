// Forced stops of user code in a log. What an engine that does not count would have recorded is
// made from a second machine that does count: the state some thousand instructions further on.
#include <doctest/doctest.h>

#include <cstring>

#include "kvm/user_engine.h"
#include "recorded_guest.h"
#include "replay/ticker.h"

namespace node_mesh::test {
namespace {

constexpr std::size_t code_segment = 1;

bool in_user_mode(const Machine& machine) {
  return (machine.cpu_snapshot().segments[code_segment].selector & 3) == 3;
}

// Runs `guest` to where its user code begins.
void run_to_user_mode(TinyGuest& guest) {
  while (!in_user_mode(guest.machine())) {
    REQUIRE(guest.run({guest.machine().position().steps + 1, 0}) == MachineExit::limit);
  }
}

// What changes in `later` against `now`: the same machine, run on.
Preemption difference(Machine& now, Machine& later) {
  Preemption result;
  const CpuSnapshot cpu = later.cpu_snapshot();
  result.state = {cpu.gpr, cpu.rip, cpu.rflags, cpu.segments, cpu.fpu};
  const std::byte* before = now.memory().base();
  const std::byte* after = later.memory().base();
  for (std::uint64_t gfn = 0; gfn < now.memory().page_count(); ++gfn) {
    const std::uint64_t at = gfn * page_bytes;
    if (std::memcmp(before + at, after + at, page_bytes) == 0) continue;
    Preemption::Page& page = result.pages.emplace_back();
    page.gfn = gfn;
    std::memcpy(page.bytes.data(), after + at, page_bytes);
  }
  return result;
}

struct Scene {
  Position stop;              // where the forced stop is recorded
  Preemption forced;          // what it led to
  CpuSnapshot after;          // of the machine that counted
  std::vector<Bytes> chunks;  // up to the stop, which they do not hold
};

Scene make_scene(const char* name, std::uint64_t counted, std::uint64_t more) {
  Scene scene;
  TinyGuest now(name), later(name);
  run_to_user_mode(now);
  run_to_user_mode(later);
  const Position begin = now.machine().position();
  scene.stop = {begin.steps, counted};
  now.run(scene.stop);
  later.run({begin.steps, counted + more});
  REQUIRE(later.machine().position() == Position{begin.steps, counted + more});
  scene.forced = difference(now.machine(), later.machine());
  scene.after = later.machine().cpu_snapshot();
  scene.chunks.push_back(encode_chunk({0, {0, 0}, scene.stop, 0, 0, {}}));
  return scene;
}

Chunk stop_chunk(const Scene& scene, std::vector<Event> events) {
  const Position last{scene.stop.steps + 1, 0};
  return {1, scene.stop, last, 0, 0, std::move(events)};
}

void check_same_registers(const CpuSnapshot& found, const CpuSnapshot& expected) {
  CHECK(register_values(found) == register_values(expected));
}

TEST_CASE("a forced stop is applied: registers, memory, one step on") {
  for (const std::uint64_t counted : {0, 1, 500}) {
    const Scene scene = make_scene("user_memory", counted, 4321);
    CHECK(!scene.forced.pages.empty());
    Replay replay("user_memory");
    auto chunks = scene.chunks;
    chunks.push_back(encode_chunk(
        stop_chunk(scene, {{scene.stop, PreemptEvent{scene.forced.state, scene.forced.pages}}})));
    CHECK(replay.apply_all(chunks) == Replayer::Status::done);
    Machine& machine = replay.guest.machine();
    CHECK(machine.position() == Position{scene.stop.steps + 1, 0});
    check_same_registers(machine.cpu_snapshot(), scene.after);
    for (const Preemption::Page& page : scene.forced.pages) {
      CHECK(std::memcmp(machine.memory().base() + page.gfn * page_bytes, page.bytes.data(),
                        page_bytes) == 0);
    }
  }
}

// The copy goes live where it is; what it records is added to the chunks.
void record_to_the_end(Replay& copy, std::vector<Bytes>& chunks) {
  struct Sink final : ChunkSink {
    void chunk(std::uint64_t, Bytes bytes) override { chunks->push_back(std::move(bytes)); }
    std::vector<Bytes>* chunks = nullptr;
  } sink;
  sink.chunks = &chunks;
  RandomClock clock(3);
  Recorder recorder(copy.guest.machine(), copy.digest, clock, {}, &sink);
  recorder.start({copy.replayer.next_chunk(),
                  clock.now_ns(),
                  copy.replayer.ns_per_step(),
                  {},
                  copy.replayer.inside_preemption()});
  clock.set_recorder(&recorder);
  Ticker ticker([&] { recorder.tick(); });
  ticker.arm();
  while (recorder.run() != Recorder::Pause::ended) {
  }
  ticker.disarm();
  recorder.finish(EndReason::poweroff);
  clock.set_recorder(nullptr);
}

TEST_CASE("a machine that was stopped by force goes on, records, and all of it replays") {
  const Scene scene = make_scene("user_memory", 10, 20'000);
  auto chunks = scene.chunks;
  chunks.push_back(encode_chunk(
      stop_chunk(scene, {{scene.stop, PreemptEvent{scene.forced.state, scene.forced.pages}}})));
  Replay copy("user_memory");
  REQUIRE(copy.apply_all(chunks) == Replayer::Status::done);

  record_to_the_end(copy, chunks);

  Replay whole("user_memory");
  CHECK(whole.apply_all(chunks) == Replayer::Status::ended);
  CHECK_MESSAGE(whole.replayer.divergence().what.empty(), whole.replayer.divergence().what);
  CHECK(whole.guest.console() == copy.guest.console());
}

TEST_CASE("a primary that died between the parts of a forced stop leaves none behind") {
  const Scene scene = make_scene("user_memory", 7, 30'000);
  REQUIRE(!scene.forced.pages.empty());
  const std::vector<Preemption::Page> first{scene.forced.pages[0]};
  auto chunks = scene.chunks;
  const Event part{scene.stop, PreemptEvent{std::nullopt, first}};
  chunks.push_back(encode_chunk({1, scene.stop, scene.stop, 0, 0, {part}}));
  Replay copy("user_memory");
  REQUIRE(copy.apply_all(chunks) == Replayer::Status::done);
  REQUIRE(copy.replayer.inside_preemption());
  record_to_the_end(copy, chunks);
  Replay whole("user_memory");
  CHECK(whole.apply_all(chunks) == Replayer::Status::ended);
  CHECK_MESSAGE(whole.replayer.divergence().what.empty(), whole.replayer.divergence().what);
  CHECK(whole.guest.console() == copy.guest.console());
}

TEST_CASE("parts take effect together, or not at all") {
  const Scene scene = make_scene("user_memory", 7, 30'000);
  REQUIRE(scene.forced.pages.size() >= 2);
  const std::vector<Preemption::Page> first{scene.forced.pages[0]};
  const std::vector<Preemption::Page> rest(scene.forced.pages.begin() + 1,
                                           scene.forced.pages.end());
  const Event part{scene.stop, PreemptEvent{std::nullopt, first}};
  Replay replay("user_memory");
  auto chunks = scene.chunks;
  chunks.push_back(encode_chunk({1, scene.stop, scene.stop, 0, 0, {part}}));
  REQUIRE(replay.apply_all(chunks) == Replayer::Status::done);
  CHECK(replay.replayer.inside_preemption());
  CHECK(replay.guest.machine().position() == scene.stop);
  const std::uint64_t at = first[0].gfn * page_bytes;
  CHECK(std::memcmp(replay.guest.machine().memory().base() + at, first[0].bytes.data(),
                    page_bytes) != 0);
  Chunk last = stop_chunk(scene, {{scene.stop, PreemptEvent{scene.forced.state, rest}}});
  last.number = 2;
  REQUIRE(replay.apply(last) == Replayer::Status::done);
  CHECK(!replay.replayer.inside_preemption());
  check_same_registers(replay.guest.machine().cpu_snapshot(), scene.after);
  CHECK(std::memcmp(replay.guest.machine().memory().base() + at, first[0].bytes.data(),
                    page_bytes) == 0);
}

TEST_CASE("forced stops that cannot be are found out") {
  const Scene scene = make_scene("user_memory", 3, 9'000);
  REQUIRE(scene.forced.pages.size() >= 2);
  const auto diverges = [&](std::vector<Event> events, Position stop) {
    Replay replay("user_memory");
    auto chunks = scene.chunks;
    chunks[0] = encode_chunk({0, {0, 0}, stop, 0, 0, {}});
    Chunk chunk = stop_chunk(scene, std::move(events));
    chunk.first = stop;
    chunks.push_back(encode_chunk(chunk));
    return replay.apply_all(chunks) == Replayer::Status::diverged;
  };
  const PreemptEvent whole{scene.forced.state, scene.forced.pages};
  SUBCASE("in kernel mode") {
    const Position kernel{scene.stop.steps - 2, 0};
    CHECK(diverges({{kernel, whole}}, kernel));
  }
  SUBCASE("a page that the machine does not have") {
    PreemptEvent far = whole;
    far.pages.push_back({(32ull << 20) / page_bytes, {}});
    CHECK(diverges({{scene.stop, far}}, scene.stop));
  }
  SUBCASE("parts out of order") {
    const Event part{scene.stop, PreemptEvent{std::nullopt, {scene.forced.pages[1]}}};
    CHECK(diverges({part, part}, scene.stop));
  }
  SUBCASE("another register") {
    PreemptEvent other = whole;
    other.state->gpr[3] ^= 1;
    Chunk chunk = stop_chunk(scene, {{scene.stop, other}});
    Replay twin("user_memory"), replay("user_memory");
    REQUIRE(twin.apply_all(scene.chunks) == Replayer::Status::done);
    REQUIRE(replay.apply_all(scene.chunks) == Replayer::Status::done);
    REQUIRE(twin.apply(stop_chunk(scene, {{scene.stop, whole}})) == Replayer::Status::done);
    chunk.events.push_back({chunk.last, twin.digest.take(twin.guest.machine())});
    CHECK(replay.apply(chunk) == Replayer::Status::diverged);
    REQUIRE(replay.replayer.divergence().registers.size() == 1);
    CHECK(replay.replayer.divergence().registers[0].name == "rbx");
  }
}

}  // namespace
}  // namespace node_mesh::test
