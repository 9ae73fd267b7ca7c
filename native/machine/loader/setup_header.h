// Offsets and values of Linux's x86 boot protocol: the setup header (at the same offsets in a
// bzImage file and in struct boot_params) and the parts of boot_params that we fill in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace node_mesh::setup {

inline constexpr std::size_t setup_sectors = 0x1f1, boot_flag = 0x1fe, jump_distance = 0x201,
                             magic = 0x202, version = 0x206, loader_type = 0x210,
                             load_flags = 0x211, initrd_address = 0x218, initrd_size = 0x21c,
                             cmdline_address = 0x228, initrd_address_max = 0x22c,
                             xload_flags = 0x236, cmdline_size = 0x238, payload_offset = 0x248,
                             payload_length = 0x24c, setup_data = 0x250, init_size = 0x260;
inline constexpr std::uint16_t boot_flag_value = 0xaa55;
inline constexpr std::uint32_t magic_value = 0x5372'6448;  // "HdrS"
inline constexpr unsigned version_min = 0x20c;
inline constexpr std::uint16_t xload_64_bit = 1;
inline constexpr std::size_t header_end_max = 0x290;  // boot_params has other fields from there on
inline constexpr std::size_t file_bytes_min = 0x290;

// Only in boot_params.
inline constexpr std::size_t acpi_rsdp = 0x070, e820_count = 0x1e8, e820_table = 0x2d0;
inline constexpr std::size_t e820_entry_bytes = 20;
inline constexpr std::uint32_t e820_ram = 1, e820_reserved = 2;
inline constexpr std::uint8_t loader_type_unregistered = 0xff;
inline constexpr std::uint8_t load_flag_high = 1;
inline constexpr std::uint32_t data_rng_seed = 9;  // type of a setup_data entry

}  // namespace node_mesh::setup
