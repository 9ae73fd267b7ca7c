// Runs a tiny guest in a machine for tests: time is as the guest's steps make it, sleep is skipped
// to the next deadline, so each run of the same guest with the same typed input is the same run.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "machine/machine.h"

namespace node_mesh {

// The file `<guests directory>/NAME.elf`; empty when it is not there.
std::vector<std::byte> read_tiny_guest(std::string_view name);

// Everything a digest would cover but memory: position, registers, devices; to compare two runs.
std::string fingerprint_of(const Machine& machine);

class TinyGuest final : public ConsoleSink {
 public:
  explicit TinyGuest(std::string_view name, MachineConfig config = default_config());
  static MachineConfig default_config();

  void console_output(std::uint64_t offset, std::span<const std::byte> bytes) override;

  // Runs on to the end of the guest, to `limit`, to a sleep that only input can end, or to a kick.
  MachineExit run(Position limit = {UINT64_MAX, 0});
  void type(std::string_view text);
  // Goes on in another machine, made of this one's saved state and a copy of its memory.
  void move_to_restored_machine();

  Machine& machine() { return *machine_; }
  const std::string& console() const { return console_; }
  std::string fingerprint() const { return fingerprint_of(*machine_) + "\n" + console_; }

 private:
  MachineConfig config_;
  std::unique_ptr<Machine> machine_;
  std::string console_;
};

}  // namespace node_mesh
