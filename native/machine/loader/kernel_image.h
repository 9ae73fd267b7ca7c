// What kernel files may be: a Linux bzImage, or a plain x86-64 ELF (vmlinux, test guests).
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "machine/loader/elf_image.h"
#include "machine/loader/kernel_payload.h"

namespace node_mesh {

struct KernelImage {
  UnpackedKernel unpacked;  // keeps what `elf` points into, when the file was packed
  ElfImage elf;
  // The setup header, as it stands at offset 0x1f1 of the file and of Linux's boot_params; empty
  // for a plain ELF.
  std::vector<std::byte> setup_header;
  std::uint64_t initrd_address_max = 0x7fff'ffff;
};

// Errors are one line for the user. The image may point into `file`.
std::expected<KernelImage, std::string> read_kernel_image(std::span<const std::byte> file);

}  // namespace node_mesh
