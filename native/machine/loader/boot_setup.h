// Puts a kernel, its initrd and everything that Linux's 64-bit boot protocol asks for into guest
// memory, and says in which state the CPU begins.
#pragma once

#include <cstddef>
#include <expected>
#include <span>
#include <string>

#include "cpu/cpu_snapshot.h"
#include "machine/guest_memory.h"
#include "machine/machine_config.h"

namespace node_mesh {

// `config` was checked and `memory` is new, all zero. Errors are one line for the user.
std::expected<CpuSnapshot, std::string> set_up_boot(const MachineConfig& config,
                                                    std::span<const std::byte> kernel,
                                                    std::span<const std::byte> initrd,
                                                    GuestMemory& memory);

}  // namespace node_mesh
