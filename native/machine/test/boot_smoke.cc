// Boots a kernel in the machine without recording and prints its console: the first thing to try
// when a kernel does not come up. Virtual time follows steps alone, sleep is skipped, so two runs
// of it are the same run; the last line says what it cost.
//
//   boot_smoke KERNEL [INITRD|-] [CMDLINE] [STEPS_MAX]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "machine/machine.h"

namespace node_mesh {
namespace {

std::vector<char> read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) std::fprintf(stderr, "Cannot read \"%s\"\n", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Terminal final : public ConsoleSink {
 public:
  void console_output(std::uint64_t, std::span<const std::byte> bytes) override {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  }
};

const char* end_name(GuestEnd end) {
  switch (end) {
    case GuestEnd::none:
      return "not at all";
    case GuestEnd::poweroff:
      return "poweroff";
    case GuestEnd::reboot:
      return "reboot";
    case GuestEnd::halted_forever:
      return "halted for ever";
    case GuestEnd::triple_fault:
      return "triple fault";
    case GuestEnd::unsupported:
      return "unsupported";
  }
  return "?";
}

// Returns how often the guest slept.
std::uint64_t run_to_end(Machine& machine, std::uint64_t steps_max) {
  constexpr std::uint64_t rate = std::uint64_t{1} << 32;
  std::uint64_t sleeps = 0;
  while (machine.run({steps_max, 0}, nullptr) == MachineExit::idle &&
         machine.next_deadline_ns() != UINT64_MAX) {
    machine.set_clock({machine.next_deadline_ns(), rate});
    ++sleeps;
  }
  return sleeps;
}

int boot(int argc, char** argv) {
  const std::vector<char> kernel = read_file(argv[1]);
  const std::vector<char> initrd =
      argc > 2 && std::string(argv[2]) != "-" ? read_file(argv[2]) : std::vector<char>{};
  MachineConfig config;
  config.cmdline = argc > 3 ? argv[3] : "console=ttyS0 cryptomgr.notests=1";
  config.start_realtime_ns = 1'700'000'000'000'000'000;
  const std::uint64_t steps_max = argc > 4 ? std::strtoull(argv[4], nullptr, 0) : UINT64_MAX;
  const auto begin = std::chrono::steady_clock::now();
  Terminal terminal;
  auto machine = Machine::create(config, std::as_bytes(std::span<const char>(kernel)),
                                 std::as_bytes(std::span<const char>(initrd)), terminal);
  if (!machine) {
    std::fprintf(stderr, "%s\n", machine.error().c_str());
    return 1;
  }
  const std::uint64_t sleeps = run_to_end(**machine, steps_max);
  const auto wall = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin);
  std::fprintf(stderr, "\n[end: %s, %llu steps, %llu ms virtual, %lld ms wall, %llu sleeps]\n%s",
               end_name((*machine)->end()),
               static_cast<unsigned long long>((*machine)->position().steps),
               static_cast<unsigned long long>((*machine)->guest_ns() / 1'000'000),
               static_cast<long long>(wall.count()), static_cast<unsigned long long>(sleeps),
               (*machine)->report().c_str());
  return (*machine)->end() == GuestEnd::none ? 2 : 0;
}

}  // namespace
}  // namespace node_mesh

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: boot_smoke KERNEL [INITRD|-] [CMDLINE] [STEPS_MAX]\n");
    return 64;
  }
  return node_mesh::boot(argc, argv);
}
