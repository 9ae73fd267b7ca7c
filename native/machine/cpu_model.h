// The CPU that each guest sees on every host: model "mesh-v1". What is announced here the software
// CPU must do; a change of a single bit is a new model, since recorded machines rely on it.
#pragma once

#include <cstdint>

#include "cpu/bus.h"

namespace node_mesh {

// `apic_enabled`: the APIC feature bit follows IA32_APIC_BASE, as on real parts.
Bus::CpuidResult mesh_v1_cpuid(std::uint32_t leaf, std::uint32_t subleaf, bool apic_enabled);

}  // namespace node_mesh
