// Threat model: a guest with all privileges that runs anything at all. Random bytes, and random
// bytes between device accesses, run as kernels in the whole machine. Nothing they do may crash or
// hang the monitor, and the same bytes must give the same run, however it is cut into pieces.
#include <doctest/doctest.h>

#include <cstdlib>
#include <random>

#include "machine/test/kernel_files.h"
#include "test/guests/tiny_guest.h"

namespace node_mesh {
namespace {

constexpr std::size_t code_bytes = 4096;
constexpr std::uint64_t steps_max = 20'000, user_steps_max = 20'000;

// Ports and registers that make something happen.
void put_device_access(FileBytes& code, std::size_t at, std::mt19937_64& random) {
  constexpr std::uint16_t ports[] = {0x20, 0x21,  0x40,  0x43,  0x61,  0x70,  0x71,
                                     0xa1, 0xcf8, 0xcfc, 0x3f8, 0x3f9, 0x3fc, 0x600};
  const std::uint16_t port = ports[random() % std::size(ports)];
  const std::uint8_t bytes[] = {0x66, 0xba, static_cast<std::uint8_t>(port),
                                static_cast<std::uint8_t>(port >> 8),             // mov $port, %dx
                                static_cast<std::uint8_t>(0xec + random() % 4)};  // in, out
  for (std::size_t i = 0; i < sizeof bytes && at + i < code.size(); ++i) {
    code[at + i] = static_cast<std::byte>(bytes[i]);
  }
}

void fill(FileBytes& file, std::size_t start, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::size_t i = start; i < start + code_bytes; ++i) {
    file[i] = static_cast<std::byte>(random());
  }
  if (seed % 2 != 0) return;
  for (std::size_t i = start; i < start + code_bytes; i += 6 + random() % 20) {
    put_device_access(file, i, random);
  }
}

// Nothing but random bytes: most of them end soon, in a triple fault.
FileBytes random_kernel(std::uint64_t seed) {
  FileBytes file = make_tiny_elf(code_bytes);
  fill(file, file.size() - code_bytes, seed);
  return file;
}

// Random bytes with handlers that go on after each fault (hostile.S).
FileBytes resuming_kernel(std::uint64_t seed) {
  FileBytes file = read_tiny_guest("hostile");
  const std::string_view marker = "random code here";
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const std::size_t start = text.find(marker);
  REQUIRE(start != std::string_view::npos);
  fill(file, start, seed);
  return file;
}

struct Discarded final : ConsoleSink {
  void console_output(std::uint64_t, std::span<const std::byte>) override {}
};

std::string run(const FileBytes& kernel, std::uint64_t piece) {
  Discarded console;
  MachineConfig config = TinyGuest::default_config();
  auto machine = Machine::create(config, kernel, {}, console);
  REQUIRE(machine.has_value());
  Machine& it = **machine;
  while (it.position().steps < steps_max && it.position().user_steps < user_steps_max) {
    const std::uint64_t steps = std::min(it.position().steps + piece, steps_max);
    // A guest that finds its way into user mode may stay there.
    Position limit{steps, 0};
    if ((it.cpu_snapshot().segments[1].selector & 3u) != 0) {
      limit = {it.position().steps, it.position().user_steps + piece};
    }
    const MachineExit exit = it.run(limit, nullptr);
    if (exit == MachineExit::ended) break;
    if (exit == MachineExit::idle) {
      if (it.next_deadline_ns() == UINT64_MAX) break;
      it.set_clock({it.next_deadline_ns(), 1ull << 32});
    }
  }
  return fingerprint_of(it);
}

void check_runs(const FileBytes& kernel, std::uint64_t seed) {
  const std::string whole = run(kernel, 1'000'000);
  CHECK(run(kernel, 1'000'000) == whole);
  if (seed % 8 == 0) CHECK(run(kernel, 1 + seed % 7) == whole);
}

TEST_CASE("hostile guests: anything may run, and runs the same again") {
  // More rounds by the environment, for a night.
  const char* rounds = std::getenv("NODE_MESH_HOSTILE_GUESTS");
  const std::uint64_t last = rounds == nullptr ? 150 : std::strtoull(rounds, nullptr, 10);
  for (std::uint64_t seed = 1; seed <= last; ++seed) {
    CAPTURE(seed);
    check_runs(random_kernel(seed), seed);
    check_runs(resuming_kernel(seed), seed);
  }
}

}  // namespace
}  // namespace node_mesh
