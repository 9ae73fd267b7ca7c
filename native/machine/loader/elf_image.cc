#include "machine/loader/elf_image.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "machine/format_text.h"

namespace node_mesh {
namespace {

// Linux has four; more than this is not a kernel.
constexpr unsigned program_headers_max = 64;
// Below lie the structures that the boot code hands over; above, no machine has memory.
constexpr std::uint64_t load_address_min = 1 << 20;
constexpr std::uint64_t load_address_max = 1ull << 40;

template <typename T>
bool read_at(std::span<const std::byte> file, std::uint64_t offset, T& into) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return false;
  std::memcpy(&into, file.data() + offset, sizeof(T));
  return true;
}

std::expected<ElfSegment, std::string> read_segment(std::span<const std::byte> file,
                                                    const Elf64_Phdr& header) {
  if (header.p_offset > file.size() || header.p_filesz > file.size() - header.p_offset) {
    return std::unexpected("the ELF file is cut off");
  }
  if (header.p_filesz > header.p_memsz) {
    return std::unexpected("an ELF segment is larger in the file than in memory");
  }
  if (header.p_paddr < load_address_min || header.p_paddr > load_address_max ||
      header.p_memsz > load_address_max) {
    return std::unexpected(format_text("an ELF segment wants to be at physical address %#llx",
                                       static_cast<unsigned long long>(header.p_paddr)));
  }
  return ElfSegment{header.p_paddr, file.subspan(header.p_offset, header.p_filesz), header.p_memsz};
}

std::expected<void, std::string> check_header(const Elf64_Ehdr& header) {
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return std::unexpected("it is no 64-bit ELF file");
  if (header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64) {
    return std::unexpected(
        format_text("it is an ELF file for another machine (type %u), "
                    "not for x86-64",
                    header.e_machine));
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return std::unexpected("it is an ELF file, but no executable one");
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
      header.e_phnum > program_headers_max) {
    return std::unexpected("its ELF program headers are not sensible");
  }
  return {};
}

}  // namespace

std::uint64_t ElfImage::end() const {
  std::uint64_t end = 0;
  for (const ElfSegment& segment : segments) {
    end = std::max(end, segment.gpa + segment.memory_bytes);
  }
  return end;
}

bool looks_like_elf(std::span<const std::byte> file) {
  return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

std::expected<ElfImage, std::string> read_elf(std::span<const std::byte> file) {
  Elf64_Ehdr header;
  if (!looks_like_elf(file)) return std::unexpected("it holds no ELF kernel");
  if (!read_at(file, 0, header)) return std::unexpected("the ELF file is cut off");
  if (auto checked = check_header(header); !checked) return std::unexpected(checked.error());
  ElfImage image;
  image.entry = header.e_entry;
  bool entry_inside = false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr program;
    if (!read_at(file, header.e_phoff + i * sizeof program, program)) {
      return std::unexpected("the ELF file is cut off");
    }
    if (program.p_type != PT_LOAD || program.p_memsz == 0) continue;
    auto segment = read_segment(file, program);
    if (!segment) return std::unexpected(segment.error());
    entry_inside |=
        image.entry >= segment->gpa && image.entry - segment->gpa < segment->memory_bytes;
    image.segments.push_back(*segment);
  }
  if (!entry_inside) return std::unexpected("its entry point lies in none of its segments");
  return image;
}

}  // namespace node_mesh
