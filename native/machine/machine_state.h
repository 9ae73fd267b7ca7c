// All that a machine is at a position, its memory apart: what a checkpoint keeps and a restored
// machine is built from. The encoded form of the CPU is little-endian fields in one fixed order.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "cpu/cpu_snapshot.h"

namespace node_mesh {

// Raised whenever a state saved by an older program would mean something else to this one: another
// field, another device, another meaning of a value. Programs restore states of their own only.
inline constexpr std::uint32_t machine_state_version = 1;

// How the guest's run ended, by its own doing.
enum class GuestEnd : std::uint8_t {
  none,
  poweroff,
  reboot,
  halted_forever,
  triple_fault,
  unsupported
};

struct DeviceState {
  std::string name;
  std::vector<std::byte> bytes;  // canonical serialised state
};

struct MachineState {
  CpuSnapshot cpu;
  std::vector<DeviceState> devices;  // the virtual clock is one of them
  GuestEnd end = GuestEnd::none;
  std::string report;  // for ends that have one
};

std::vector<std::byte> encode_cpu(const CpuSnapshot& cpu);
// The error says what is wrong with the bytes.
std::expected<CpuSnapshot, std::string> decode_cpu(std::span<const std::byte> bytes);

}  // namespace node_mesh
