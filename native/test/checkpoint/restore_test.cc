// A machine restored at any position has the same future: each tiny guest is cut at random
// positions, goes on in a machine made of the saved state, and ends as the run that was not cut.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "replay/state_digest.h"
#include "test/guests/tiny_guest.h"

namespace node_mesh {
namespace {

struct Scene {
  const char* guest;
  const char* typed;
  unsigned cuts;
};

constexpr Scene scenes[] = {
    {"hello", "", 5},          {"read_time", "", 10},   {"pit_timer", "", 100},
    {"lapic_timer", "", 20},   {"exceptions", "", 20},  {"user_syscalls", "", 20},
    {"self_modifying", "", 5}, {"triple_fault", "", 5}, {"echo", "cut me anywhere q", 20},
};

std::uint64_t first_seed() {
  const char* text = std::getenv("NODE_MESH_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

struct Outcome {
  std::string fingerprint;
  std::uint64_t digest = 0;
  Position end;
};

// Runs a guest to its end; what is typed comes whenever it sleeps for want of it.
void run_on(TinyGuest& guest, std::string_view& typed, Position limit) {
  while (guest.run(limit) == MachineExit::idle && !typed.empty()) {
    guest.type(typed.substr(0, 1));
    typed.remove_prefix(1);
  }
}

Outcome outcome_of(TinyGuest& guest) {
  StateDigest digest(guest.machine().memory().page_count());
  // Both machines count the pages as written that were not zero when they began.
  return {guest.fingerprint(), digest_summary(digest.take(guest.machine())),
          guest.machine().position()};
}

Outcome run_whole(const Scene& scene) {
  TinyGuest guest(scene.guest);
  std::string_view typed = scene.typed;
  run_on(guest, typed, {UINT64_MAX, 0});
  return outcome_of(guest);
}

TEST_CASE("a machine restored at a random position ends as one that was not") {
  for (const Scene& scene : scenes) {
    const Outcome whole = run_whole(scene);
    std::mt19937_64 random(first_seed());
    for (unsigned round = 0; round < scene.cuts; ++round) {
      CAPTURE(scene.guest);
      CAPTURE(round);
      TinyGuest guest(scene.guest);
      std::string_view typed = scene.typed;
      // Two cuts, so that a restored machine is saved again; user code is cut inside too.
      for (int cut = 0; cut < 2; ++cut) {
        const std::uint64_t from = guest.machine().position().steps;
        const Position limit{from + random() % (whole.end.steps - from + 1), random() % 100};
        run_on(guest, typed, limit);
        guest.move_to_restored_machine();
      }
      run_on(guest, typed, {UINT64_MAX, 0});
      const Outcome cut = outcome_of(guest);
      REQUIRE(cut.fingerprint == whole.fingerprint);
      REQUIRE(cut.digest == whole.digest);
    }
  }
}

TEST_CASE("a restored machine is the one that was saved, at once and bit for bit") {
  TinyGuest guest("user_syscalls");
  for (std::uint64_t steps = 1; guest.machine().end() == GuestEnd::none; steps += 977) {
    guest.run({steps, 0});
    const std::string before = guest.fingerprint();
    const auto cpu = encode_cpu(guest.machine().cpu_snapshot());
    guest.move_to_restored_machine();
    REQUIRE(guest.fingerprint() == before);
    REQUIRE(encode_cpu(guest.machine().cpu_snapshot()) == cpu);
  }
}

TEST_CASE("states that do not fit are refused with a reason") {
  TinyGuest guest("pit_timer");
  guest.run({5'000, 0});
  const MachineState good = guest.machine().save_state();
  const auto refusal = [&](const MachineState& state) {
    auto memory = GuestMemory::create(TinyGuest::default_config().memory_bytes);
    REQUIRE(memory);
    auto machine = Machine::restore(TinyGuest::default_config(), state, std::move(*memory), guest);
    return machine ? std::string() : machine.error();
  };
  CHECK(refusal(good).empty());
  MachineState state = good;
  state.devices.pop_back();
  CHECK(refusal(state) == "it has other devices than this program's machine");
  for (std::size_t i = 0; i < good.devices.size(); ++i) {
    CAPTURE(good.devices[i].name);
    state = good;
    state.devices[i].bytes.push_back(std::byte{0});
    CHECK(!refusal(state).empty());
    state = good;
    state.devices[i].name = "another";
    CHECK(!refusal(state).empty());
  }
  auto cpu = encode_cpu(good.cpu);
  REQUIRE(decode_cpu(cpu));
  cpu.pop_back();
  CHECK(!decode_cpu(cpu));
}

}  // namespace
}  // namespace node_mesh
