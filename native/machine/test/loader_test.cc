#include <doctest/doctest.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <random>

#include "machine/guest_memory.h"
#include "machine/loader/boot_setup.h"
#include "machine/loader/kernel_image.h"
#include "machine/test/kernel_files.h"

namespace node_mesh {
namespace {

using Bytes = std::span<const std::byte>;

std::string refusal(Bytes file) {
  const auto image = read_kernel_image(file);
  REQUIRE_FALSE(image.has_value());
  CHECK(image.error().starts_with("Cannot load kernel: "));
  CHECK(image.error().find('\n') == std::string::npos);
  return image.error().substr(20);
}

FileBytes pack_lz4(const FileBytes& file) {
  FileBytes packed(8 + static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(file.size()))));
  const int size = LZ4_compress_default(
      reinterpret_cast<const char*>(file.data()), reinterpret_cast<char*>(packed.data() + 8),
      static_cast<int>(file.size()), static_cast<int>(packed.size()) - 8);
  put_value(packed, 0, std::uint32_t{0x184c2102});
  put_value(packed, 4, static_cast<std::uint32_t>(size));
  packed.resize(8 + static_cast<std::size_t>(size));
  return packed;
}

FileBytes pack_zstd(const FileBytes& file) {
  FileBytes packed(ZSTD_compressBound(file.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), file.data(), file.size(), 3));
  return packed;
}

FileBytes pack_gzip(const FileBytes& file) {
  FileBytes packed(file.size() + 1024);
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(file.data()));
  stream.avail_in = static_cast<uInt>(file.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

FileBytes pack_xz(const FileBytes& file) {
  FileBytes packed(file.size() + 1024);
  std::size_t size = 0;
  REQUIRE(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, nullptr,
                                  reinterpret_cast<const std::uint8_t*>(file.data()), file.size(),
                                  reinterpret_cast<std::uint8_t*>(packed.data()), &size,
                                  packed.size()) == LZMA_OK);
  packed.resize(size);
  return packed;
}

struct Packed {
  const char* name;
  FileBytes file;
};

std::vector<Packed> all_packings(const FileBytes& elf) {
  const auto size = static_cast<std::uint32_t>(elf.size());
  return {{"LZ4", make_bzimage(pack_lz4(elf), size)},
          {"Zstandard", make_bzimage(pack_zstd(elf), size)},
          {"gzip", make_bzimage(pack_gzip(elf), size, true)},
          {"xz", make_bzimage(pack_xz(elf), size)}};
}

TEST_CASE("loader: every packing gives the same kernel") {
  const FileBytes elf = make_tiny_elf(100'000);
  for (const Packed& packed : all_packings(elf)) {
    CAPTURE(packed.name);
    const auto image = read_kernel_image(packed.file);
    REQUIRE_MESSAGE(image.has_value(), image.error());
    CHECK(image->elf.entry == tiny_elf_address);
    REQUIRE(image->elf.segments.size() == 1);
    CHECK(image->elf.segments[0].bytes.size() == 100'000);
    CHECK(image->elf.end() == tiny_elf_address + 200'000);
    CHECK(image->setup_header.size() == 0x202 + 0x6a - 0x1f1);
  }
}

TEST_CASE("loader: what is no kernel is refused in one clear line") {
  CHECK(refusal({}) == "the file is empty");
  const std::string text = "#!/bin/sh\necho this is a script, not a kernel\n";
  CHECK(refusal(std::as_bytes(std::span<const char>(text))) ==
        "the file is neither a Linux bzImage nor an x86-64 ELF kernel");
  FileBytes elf = make_tiny_elf();
  put_value(elf, 18, std::uint16_t{EM_AARCH64});
  CHECK(refusal(elf) == "it is an ELF file for another machine (type 183), not for x86-64");
  elf = make_tiny_elf();
  elf[EI_CLASS] = std::byte{ELFCLASS32};
  CHECK(refusal(elf) == "it is no 64-bit ELF file");
  elf = make_tiny_elf();
  elf.resize(elf.size() - 1);
  CHECK(refusal(elf) == "the ELF file is cut off");
  elf = make_tiny_elf();
  put_value(elf, 24, std::uint64_t{0x100});
  CHECK(refusal(elf) == "its entry point lies in none of its segments");
  elf = make_tiny_elf();
  put_value(elf, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), std::uint64_t{0x1000});
  CHECK(refusal(elf) == "an ELF segment wants to be at physical address 0x1000");
}

TEST_CASE("loader: damaged bzImages are refused") {
  const FileBytes elf = make_tiny_elf(50'000);
  const auto size = static_cast<std::uint32_t>(elf.size());
  for (Packed& packed : all_packings(elf)) {
    CAPTURE(packed.name);
    FileBytes cut = packed.file;
    cut.resize(cut.size() - 100);
    CHECK(refusal(cut).starts_with("the file is cut off: its payload ends at byte "));
    FileBytes longer = packed.file;
    put_value(longer, longer.size() - 4, size + 1);
    CHECK(refusal(longer) == std::string("its ") + packed.name + " payload is damaged or cut off");
    FileBytes absurd = packed.file;
    put_value(absurd, absurd.size() - 4, std::uint32_t{0xffff'fff0});
    CHECK(refusal(absurd) == "it claims to unpack to 4294967280 bytes");
  }
  FileBytes other = make_bzimage(FileBytes(100, std::byte{0x42}), 1000);
  CHECK(refusal(other) == "its payload is packed in an unknown format");
  other = make_bzimage(pack_lz4(elf), size);
  put_value(other, setup::version, std::uint16_t{0x20b});
  CHECK(refusal(other).starts_with("its boot protocol is 2.11;"));
  other = make_bzimage(pack_lz4(elf), size);
  put_value(other, setup::xload_flags, std::uint16_t{0});
  CHECK(refusal(other) == "it is a 32-bit kernel; a 64-bit x86 kernel is needed");
  FileBytes text(1000, std::byte{'t'});
  for (std::size_t i = 0; i < text.size(); i += 7)
    text[i] = static_cast<std::byte>(i * i);
  other = make_bzimage(pack_lz4(text), 1000);
  CHECK(refusal(other) == "it holds no ELF kernel");
}

MachineConfig config_of(std::uint64_t mib) {
  MachineConfig config;
  config.memory_bytes = mib << 20;
  config.cmdline = "console=ttyS0";
  return config;
}

TEST_CASE("loader: boot structures are where the CPU state says") {
  auto memory = GuestMemory::create(64 << 20);
  REQUIRE(memory.has_value());
  const FileBytes initrd(10'000, std::byte{'i'});
  const auto state = set_up_boot(config_of(64), make_tiny_elf(), initrd, *memory);
  REQUIRE_MESSAGE(state.has_value(), state.error());
  CHECK(state->rip == tiny_elf_address);
  CHECK(state->segments[1].attributes == 0xa09b);
  CHECK(state->segments[2].attributes == 0xc093);
  const auto u32_at = [&](std::uint64_t gpa) {
    std::uint32_t value = 0;
    REQUIRE(memory->read(gpa, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  };
  const std::uint64_t params = state->gpr[6];
  const std::uint32_t initrd_gpa = u32_at(params + setup::initrd_address);
  CHECK(initrd_gpa % page_bytes == 0);
  CHECK(u32_at(params + setup::initrd_size) == initrd.size());
  CHECK(u32_at(initrd_gpa) == 0x6969'6969);
  CHECK(u32_at(u32_at(params + setup::cmdline_address)) == 0x736e'6f63);  // "cons"
  CHECK((u32_at(params + setup::e820_count) & 0xff) == 3);
  CHECK(u32_at(tiny_elf_address) == 0x9090'9090);
  std::uint8_t sum = 0;
  const std::uint64_t rsdp = u32_at(params + setup::acpi_rsdp);
  for (unsigned i = 0; i < 36; i += 4) {
    const std::uint32_t word = u32_at(rsdp + i);
    for (unsigned shift = 0; shift < 32; shift += 8)
      sum += static_cast<std::uint8_t>(word >> shift);
  }
  CHECK(sum == 0);
}

TEST_CASE("loader: what does not fit is refused with the remedy") {
  auto memory = GuestMemory::create(32 << 20);
  REQUIRE(memory.has_value());
  const FileBytes big(40 << 20, std::byte{1});
  auto state = set_up_boot(config_of(32), make_tiny_elf(), big, *memory);
  REQUIRE_FALSE(state.has_value());
  CHECK(state.error() ==
        "Cannot load initrd: it has 40 MiB, beside the kernel there are 29; raise --mem");
  state = set_up_boot(config_of(32), make_tiny_elf(20 << 20), {}, *memory);
  REQUIRE_FALSE(state.has_value());
  CHECK(state.error() ==
        "Cannot load kernel: it needs memory up to 42 MiB, the machine has 32; "
        "raise --mem");
}

TEST_CASE("loader: RAM above the device hole is announced") {
  auto memory = GuestMemory::create(5ull << 30);
  REQUIRE(memory.has_value());
  CHECK(memory->size_bytes() == 6ull << 30);
  CHECK_FALSE(memory->contains(mmio_hole_start, 1));
  CHECK_FALSE(memory->contains(mmio_hole_start - 1, 2));
  CHECK(memory->contains(mmio_hole_start - 1, 1));
  CHECK(memory->contains(mmio_hole_end, 2ull << 30));
  CHECK_FALSE(memory->contains(mmio_hole_end, (2ull << 30) + 1));
  CHECK_FALSE(memory->contains(UINT64_MAX, 2));
  REQUIRE(set_up_boot(config_of(5 << 10), make_tiny_elf(), {}, *memory).has_value());
}

TEST_CASE("config: limits with a clear line each") {
  const auto refused = [](MachineConfig config) {
    const auto checked = check_machine_config(config);
    REQUIRE_FALSE(checked.has_value());
    CHECK(checked.error().starts_with("Cannot create machine: "));
    return checked.error();
  };
  CHECK(check_machine_config(config_of(32)).has_value());
  CHECK(check_machine_config(config_of(64 << 10)).has_value());
  CHECK(refused(config_of(31))
            .ends_with("31 MiB of memory are too few; give at least 32 with --mem"));
  CHECK(refused(config_of(1 << 20)).ends_with("too many; give at most 65536 with --mem"));
  MachineConfig config = config_of(64);
  config.cmdline = std::string(2048, 'x');
  CHECK(refused(config).ends_with("has 2048 bytes; at most 2047 are possible"));
  config.cmdline = std::string("a\0b", 3);
  CHECK(refused(config).ends_with("contains a NUL byte"));
  config = config_of(64);
  config.cpu_model = "zen9";
  CHECK(refused(config).find("\"zen9\"") != std::string::npos);
}

// Threat model: kernel and initrd files come from anybody. Whatever is in them, the loader answers
// with a boot state inside of guest RAM or with one line; the sanitizer build watches the rest.
void check_survives(const FileBytes& file) {
  auto memory = GuestMemory::create(memory_bytes_min);
  REQUIRE(memory.has_value());
  const auto initrd = Bytes(file).first(file.size() / 2);
  const auto state = set_up_boot(config_of(32), file, initrd, *memory);
  if (state) {
    CHECK(memory->contains(state->rip, 1));
  } else {
    CHECK(state.error().starts_with("Cannot load "));
    CHECK(state.error().find('\n') == std::string::npos);
  }
}

void mutate(FileBytes& file, std::mt19937_64& random) {
  const std::uint64_t flips = 1 + random() % 6;
  for (std::uint64_t i = 0; i < flips; ++i) {
    // Most damage goes where the structure is: the setup header, the first bytes.
    const std::size_t at = random() % 3 == 0   ? random() % file.size()
                           : random() % 2 == 0 ? 0x1f1 + random() % 0x80
                                               : random() % 200;
    file[at % file.size()] = static_cast<std::byte>(random());
  }
  if (random() % 4 == 0) file.resize(random() % file.size());
}

TEST_CASE("loader: mutated files never get past the checks") {
  std::mt19937_64 random(20'240'607);
  const FileBytes elf = make_tiny_elf(3000);
  std::vector<Packed> originals = all_packings(elf);
  originals.push_back({"ELF", elf});
  for (const Packed& original : originals) {
    CAPTURE(original.name);
    for (int round = 0; round < 1500; ++round) {
      FileBytes file = original.file;
      mutate(file, random);
      check_survives(file);
    }
  }
}

}  // namespace
}  // namespace node_mesh
