#include "test/guests/tiny_guest.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "machine/format_text.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t rate = std::uint64_t{1} << 32;  // a nanosecond a step

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte value : bytes)
    text += format_text("%02x", std::to_integer<unsigned>(value));
  return text;
}

std::string registers_text(const CpuSnapshot& cpu) {
  std::string text;
  const auto add = [&text](std::uint64_t value) {
    text += format_text(" %llx", static_cast<unsigned long long>(value));
  };
  for (const std::uint64_t value : cpu.gpr)
    add(value);
  for (const std::uint64_t value :
       {cpu.rip, cpu.rflags, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.efer, cpu.tsc_offset}) {
    add(value);
  }
  for (const SegmentSnapshot& segment : cpu.segments)
    add(segment.selector);
  text += cpu.halted ? " halted" : "";
  return text;
}

}  // namespace

std::vector<std::byte> read_tiny_guest(std::string_view name) {
  std::ifstream file(std::string(NM_GUESTS_DIR) + "/" + std::string(name) + ".elf",
                     std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const auto view = std::as_bytes(std::span<const char>(bytes));
  return {view.begin(), view.end()};
}

MachineConfig TinyGuest::default_config() {
  MachineConfig config;
  config.memory_bytes = 32 << 20;
  config.start_realtime_ns = 1'700'000'000'000'000'000;
  return config;
}

TinyGuest::TinyGuest(std::string_view name, MachineConfig config) : config_(config) {
  auto machine = Machine::create(config, read_tiny_guest(name), {}, *this);
  if (!machine) throw std::runtime_error(machine.error());
  machine_ = std::move(*machine);
}

void TinyGuest::console_output(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (offset != console_.size()) throw std::logic_error("console offset out of order");
  for (const std::byte value : bytes)
    console_.push_back(std::to_integer<char>(value));
}

void TinyGuest::move_to_restored_machine() {
  const MachineState saved = machine_->save_state();
  GuestMemory& from = machine_->memory();
  auto memory = GuestMemory::create(config_.memory_bytes);
  if (!memory) throw std::runtime_error(memory.error());
  for (std::uint64_t gfn = 0; gfn < from.page_count(); ++gfn) {
    if (!from.contains(gfn * page_bytes, page_bytes)) continue;
    const std::span<const std::byte> page{from.base() + gfn * page_bytes, page_bytes};
    if (std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{0}; })) continue;
    if (!memory->write(gfn * page_bytes, page)) {
      throw std::logic_error("RAM of another layout");
    }
  }
  auto restored = Machine::restore(config_, saved, std::move(*memory), *this);
  if (!restored) throw std::runtime_error(restored.error());
  machine_ = std::move(*restored);
}

MachineExit TinyGuest::run(Position limit) {
  for (;;) {
    const MachineExit exit = machine_->run(limit, nullptr);
    if (exit != MachineExit::idle) return exit;
    const std::uint64_t deadline = machine_->next_deadline_ns();
    if (deadline == UINT64_MAX) return exit;
    machine_->set_clock({deadline, rate});
  }
}

void TinyGuest::type(std::string_view text) {
  machine_->console_input(std::as_bytes(std::span<const char>(text)));
}

std::string fingerprint_of(const Machine& machine) {
  const Position position = machine.position();
  std::string text = format_text("at %llu+%llu", static_cast<unsigned long long>(position.steps),
                                 static_cast<unsigned long long>(position.user_steps));
  text += registers_text(machine.cpu_snapshot());
  for (const auto& device : machine.device_states()) {
    text += "\n" + device.name + " " + hex(device.bytes);
  }
  return text;
}

}  // namespace node_mesh
