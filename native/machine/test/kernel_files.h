// Kernel files made on the spot for loader tests: a tiny ELF, and bzImages around it.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "machine/loader/setup_header.h"

namespace node_mesh {

using FileBytes = std::vector<std::byte>;

template <typename T>
void put_value(FileBytes& file, std::size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof value);
}

inline constexpr std::uint64_t tiny_elf_address = 0x200000;

// One segment of `code_bytes` bytes 0x90 at tiny_elf_address, with as many zero bytes behind.
inline FileBytes make_tiny_elf(std::size_t code_bytes = 64) {
  FileBytes file(sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + code_bytes, std::byte{0x90});
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_entry = tiny_elf_address;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  Elf64_Phdr program{};
  program.p_type = PT_LOAD;
  program.p_offset = sizeof header + sizeof program;
  program.p_paddr = tiny_elf_address;
  program.p_filesz = code_bytes;
  program.p_memsz = 2 * code_bytes;
  put_value(file, 0, header);
  put_value(file, sizeof header, program);
  return file;
}

// `payload` without the size that goes behind it.
inline FileBytes make_bzimage(std::span<const std::byte> payload, std::uint32_t unpacked_bytes,
                              bool size_is_trailer = false) {
  constexpr std::size_t base = 5 * 512;
  FileBytes file(base);
  file[setup::setup_sectors] = std::byte{4};
  file[setup::jump_distance] = std::byte{0x6a};
  put_value(file, setup::boot_flag, setup::boot_flag_value);
  put_value(file, setup::magic, setup::magic_value);
  put_value(file, setup::version, std::uint16_t{0x20f});
  put_value(file, setup::xload_flags, std::uint16_t{1});
  put_value(file, setup::initrd_address_max, std::uint32_t{0x7fff'ffff});
  file.insert(file.end(), payload.begin(), payload.end());
  if (!size_is_trailer) {
    file.resize(file.size() + 4);
    put_value(file, file.size() - 4, unpacked_bytes);
  }
  put_value(file, setup::payload_length, static_cast<std::uint32_t>(file.size() - base));
  return file;
}

}  // namespace node_mesh
