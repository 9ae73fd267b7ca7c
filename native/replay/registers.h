// The names and the fixed order of the registers in a digest: a part of the log's schema. A value
// is either the register itself or, for wide floating point registers, a hash of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cpu/cpu_snapshot.h"

namespace node_mesh {

inline constexpr std::size_t register_count = 103;
using RegisterValues = std::array<std::uint64_t, register_count>;

RegisterValues register_values(const CpuSnapshot& snapshot);
std::string_view register_name(std::size_t index);

}  // namespace node_mesh
