// The ACPI tables of the machine: one CPU with its local APIC, the I/O APIC and its wiring,
// soft-off and the power button, the reset register. All are constant, so a log needs to say
// nothing of them.
#pragma once

#include <cstdint>

#include "machine/guest_memory.h"

namespace node_mesh {

inline constexpr std::uint64_t acpi_rsdp_gpa = 0xe0000;  // where a PC's firmware would have it

void write_acpi_tables(GuestMemory& memory);

}  // namespace node_mesh
