// Where the tested code and its data lie: at the same linear addresses in the native sandbox and
// in the guest, so that the very same bytes with their real addressing modes run in both.
#pragma once

#include <cstddef>
#include <cstdint>

namespace node_mesh::differential {

inline constexpr std::uint64_t page = 4096;
inline constexpr std::uint64_t code_address = 0x10000000;
inline constexpr std::size_t code_pages = 2;
// Two pages of data, then nothing, then a page that may only be read, then the stack.
inline constexpr std::uint64_t data_address = 0x10010000;
inline constexpr std::size_t data_pages = 2;
inline constexpr std::uint64_t hole_address = data_address + data_pages * page;
inline constexpr std::uint64_t constant_address = hole_address + page;
inline constexpr std::uint64_t stack_address = constant_address + page;
inline constexpr std::size_t stack_bytes = page;
inline constexpr std::size_t data_bytes = data_pages * page;
// GS:0. The sandbox cannot move FS: its own thread-local storage lives there.
inline constexpr std::uint64_t gs_base = 0x08000000;

}  // namespace node_mesh::differential
