#include "machine/loader/boot_setup.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "machine/check.h"
#include "machine/format_text.h"
#include "machine/loader/acpi_tables.h"
#include "machine/loader/kernel_image.h"
#include "machine/loader/setup_header.h"

namespace node_mesh {
namespace {

// What lies in the first MiB. The kernel copies all of it early and reuses the memory.
constexpr std::uint64_t gdt_gpa = 0x1000, page_tables_gpa = 0x9000, boot_params_gpa = 0x10000,
                        setup_data_gpa = 0x11000, cmdline_gpa = 0x20000, low_ram_end = 0x9fc00,
                        high_ram_start = 0x100000;
constexpr std::uint64_t identity_bytes = 4ull << 30;  // mapped one to one at entry, 2 MiB pages
constexpr std::uint64_t mib = 1 << 20;

class Blob {
 public:
  explicit Blob(std::size_t size) : bytes_(size) {}
  template <typename T>
  void put(std::size_t offset, T value) {
    NM_CHECK(offset + sizeof value <= bytes_.size());
    std::memcpy(bytes_.data() + offset, &value, sizeof value);
  }
  void put_bytes(std::size_t offset, std::span<const std::byte> from) {
    NM_CHECK(offset + from.size() <= bytes_.size());
    if (!from.empty()) std::memcpy(bytes_.data() + offset, from.data(), from.size());
  }
  std::span<const std::byte> view() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

unsigned long long mib_rounded_up(std::uint64_t bytes) { return (bytes + mib - 1) / mib; }

// One past the RAM that the kernel and its initrd may use: below the device hole.
std::uint64_t loadable_end(const GuestMemory& memory) {
  return std::min(memory.size_bytes(), mmio_hole_start);
}

std::expected<void, std::string> load_segments(const ElfImage& elf, GuestMemory& memory) {
  if (elf.end() > loadable_end(memory)) {
    return std::unexpected(format_text(
        "Cannot load kernel: it needs memory up to %llu MiB, the machine has %llu; raise --mem",
        mib_rounded_up(elf.end()), static_cast<unsigned long long>(memory.size_bytes() / mib)));
  }
  for (const ElfSegment& segment : elf.segments)
    NM_CHECK(memory.write(segment.gpa, segment.bytes));
  return {};
}

std::expected<std::uint64_t, std::string> load_initrd(const KernelImage& kernel,
                                                      std::span<const std::byte> initrd,
                                                      GuestMemory& memory) {
  if (initrd.empty()) return 0;
  const std::uint64_t top = std::min(loadable_end(memory), kernel.initrd_address_max + 1);
  const std::uint64_t bottom = (kernel.elf.end() + page_bytes - 1) & ~(page_bytes - 1);
  if (bottom > top || initrd.size() > top - bottom) {
    return std::unexpected(format_text(
        "Cannot load initrd: it has %llu MiB, beside the kernel there are %llu; raise --mem",
        mib_rounded_up(initrd.size()),
        static_cast<unsigned long long>(bottom > top ? 0 : (top - bottom) / mib)));
  }
  const std::uint64_t gpa = (top - initrd.size()) & ~(page_bytes - 1);
  NM_CHECK(gpa >= bottom && memory.write(gpa, initrd));
  return gpa;
}

void put_memory_map(Blob& params, const GuestMemory& memory) {
  std::uint8_t count = 0;
  const auto add = [&](std::uint64_t start, std::uint64_t end, std::uint32_t type) {
    if (end <= start) return;
    const std::size_t at = setup::e820_table + count++ * setup::e820_entry_bytes;
    params.put(at, start);
    params.put(at + 8, end - start);
    params.put(at + 16, type);
  };
  add(0, low_ram_end, setup::e820_ram);
  add(low_ram_end, high_ram_start, setup::e820_reserved);
  add(high_ram_start, loadable_end(memory), setup::e820_ram);
  add(mmio_hole_end, memory.size_bytes(), setup::e820_ram);
  params.put(setup::e820_count, count);
}

void write_boot_params(const MachineConfig& config, const KernelImage& kernel,
                       std::uint64_t initrd_gpa, std::uint64_t initrd_bytes, GuestMemory& memory) {
  Blob params(page_bytes);
  if (kernel.setup_header.empty()) {  // a plain ELF kernel expects the same structure
    params.put(setup::boot_flag, setup::boot_flag_value);
    params.put(setup::magic, setup::magic_value);
    params.put(setup::version, std::uint16_t{0x20f});
    params.put(setup::cmdline_size, static_cast<std::uint32_t>(cmdline_bytes_max));
  } else {
    params.put_bytes(setup::setup_sectors, kernel.setup_header);
  }
  params.put(setup::loader_type, setup::loader_type_unregistered);
  params.put(setup::load_flags, setup::load_flag_high);
  params.put(setup::cmdline_address, static_cast<std::uint32_t>(cmdline_gpa));
  params.put(setup::initrd_address, static_cast<std::uint32_t>(initrd_gpa));
  params.put(setup::initrd_size, static_cast<std::uint32_t>(initrd_bytes));
  params.put(setup::setup_data, setup_data_gpa);
  params.put(setup::acpi_rsdp, acpi_rsdp_gpa);
  put_memory_map(params, memory);
  NM_CHECK(memory.write(boot_params_gpa, params.view()));

  Blob seed(16 + config.rng_seed.size());
  seed.put(8, setup::data_rng_seed);
  seed.put(12, static_cast<std::uint32_t>(config.rng_seed.size()));
  seed.put_bytes(16, std::as_bytes(std::span(config.rng_seed)));
  NM_CHECK(memory.write(setup_data_gpa, seed.view()));

  const std::span<const char> text(config.cmdline.c_str(), config.cmdline.size() + 1);
  NM_CHECK(memory.write(cmdline_gpa, std::as_bytes(text)));
}

void write_page_tables(GuestMemory& memory) {
  constexpr std::uint64_t table = 0x3, large = 0x83;  // present, writable; a large page
  constexpr std::uint64_t directories = identity_bytes >> 30;
  Blob tables(page_bytes * (2 + directories));
  tables.put(0, page_tables_gpa + page_bytes + table);
  for (std::uint64_t i = 0; i < directories; ++i) {
    tables.put(page_bytes + 8 * i, page_tables_gpa + page_bytes * (2 + i) + table);
  }
  for (std::uint64_t i = 0; i < directories * 512; ++i) {
    tables.put(page_bytes * 2 + 8 * i, (i << 21) + large);
  }
  NM_CHECK(memory.write(page_tables_gpa, tables.view()));
}

constexpr std::uint16_t code_selector = 0x10, data_selector = 0x18;
constexpr std::uint64_t code_descriptor = 0x00af'9b00'0000'ffff,
                        data_descriptor = 0x00cf'9300'0000'ffff;

SegmentSnapshot flat_segment(std::uint16_t selector, std::uint64_t descriptor) {
  return {selector, 0, 0xffff'ffff, static_cast<std::uint16_t>(descriptor >> 40 & 0xf0ff)};
}

CpuSnapshot entry_state(std::uint64_t entry) {
  CpuSnapshot state;
  state.rip = entry;
  state.gpr[6] = boot_params_gpa;  // RSI
  state.segments.fill(flat_segment(data_selector, data_descriptor));
  state.segments[1] = flat_segment(code_selector, code_descriptor);
  state.tr = {0, 0, 0xffff, 0x008b};  // a busy 64-bit TSS, as after reset
  state.ldtr = {0, 0, 0xffff, 0x0082};
  state.gdtr = {gdt_gpa, 4 * 8 - 1};
  state.cr0 = 0x8005'0033;  // PG, AM, WP, NE, ET, MP, PE
  state.cr3 = page_tables_gpa;
  state.cr4 = 0x20;    // PAE
  state.efer = 0x500;  // LME, LMA
  state.dr[6] = 0xffff'0ff0;
  state.dr[7] = 0x400;
  state.fpu.x87[0] = 0x7f;  // FCW = 0x37f, as FNINIT leaves it
  state.fpu.x87[1] = 0x03;
  return state;
}

void write_gdt(GuestMemory& memory) {
  const std::array<std::uint64_t, 4> gdt{0, 0, code_descriptor, data_descriptor};
  NM_CHECK(memory.write(gdt_gpa, std::as_bytes(std::span(gdt))));
}

}  // namespace

std::expected<CpuSnapshot, std::string> set_up_boot(const MachineConfig& config,
                                                    std::span<const std::byte> kernel,
                                                    std::span<const std::byte> initrd,
                                                    GuestMemory& memory) {
  const auto image = read_kernel_image(kernel);
  if (!image) return std::unexpected(image.error());
  if (auto loaded = load_segments(image->elf, memory); !loaded) {
    return std::unexpected(loaded.error());
  }
  const auto initrd_gpa = load_initrd(*image, initrd, memory);
  if (!initrd_gpa) return std::unexpected(initrd_gpa.error());
  write_gdt(memory);
  write_page_tables(memory);
  write_boot_params(config, *image, *initrd_gpa, initrd.size(), memory);
  write_acpi_tables(memory);
  return entry_state(image->elf.entry);
}

}  // namespace node_mesh
