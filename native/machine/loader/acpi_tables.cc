#include "machine/loader/acpi_tables.h"

#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "devices/acpi_pm/acpi_pm.h"
#include "devices/ioapic/ioapic.h"
#include "devices/lapic/lapic.h"
#include "devices/reset/reset.h"
#include "machine/check.h"
#include "machine/loader/aml.h"

namespace node_mesh {
namespace {

class Table {
 public:
  // A table begins with the header that all but the RSDP share.
  Table(std::string_view signature, std::uint8_t revision) {
    text(signature, 4);
    u32(0);  // length, in finish()
    u8(revision);
    u8(0);  // checksum
    text("NDMESH", 6);
    text("MESHV1", 8);
    u32(1);
    text("NDMH", 4);
    u32(1);
  }
  Table() = default;

  void u8(std::uint64_t value) { put(value, 1); }
  void u16(std::uint64_t value) { put(value, 2); }
  void u32(std::uint64_t value) { put(value, 4); }
  void u64(std::uint64_t value) { put(value, 8); }
  void text(std::string_view value, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i)
      u8(i < value.size() ? static_cast<std::uint8_t>(value[i]) : ' ');
  }
  void raw(std::span<const std::byte> from) {
    bytes_.insert(bytes_.end(), from.begin(), from.end());
  }
  void zeros(std::size_t count) { bytes_.resize(bytes_.size() + count); }
  // A generic address structure: I/O space.
  void io_address(std::uint64_t port, unsigned bits, unsigned access) {
    u8(port == 0 ? 0 : 1);
    u8(port == 0 ? 0 : bits);
    u8(0);
    u8(port == 0 ? 0 : access);
    u64(port);
  }
  void set_checksum(std::size_t at, std::size_t covered) {
    std::uint8_t sum = 0;
    bytes_[at] = std::byte{0};
    for (std::size_t i = 0; i < covered; ++i)
      sum += std::to_integer<std::uint8_t>(bytes_[i]);
    bytes_[at] = static_cast<std::byte>(-sum);
  }
  const std::vector<std::byte>& finish() {
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data() + 4, &length, sizeof length);
    set_checksum(9, bytes_.size());
    return bytes_;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  void put(std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i)
      bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  std::vector<std::byte> bytes_;
};

// Tables go one behind the other after the RSDP.
class Area {
 public:
  explicit Area(GuestMemory& memory) : memory_(memory) {}
  std::uint64_t add(const std::vector<std::byte>& table) {
    const std::uint64_t at = next_;
    NM_CHECK(memory_.write(at, table));
    next_ = (at + table.size() + 15) & ~std::uint64_t{15};
    NM_CHECK(next_ <= 0x100000);
    return at;
  }

 private:
  GuestMemory& memory_;
  std::uint64_t next_ = acpi_rsdp_gpa + 64;
};

Table make_dsdt() {
  Table table("DSDT", 2);
  table.raw(aml_definitions());
  return table;
}

Table make_fadt(std::uint64_t dsdt) {
  constexpr std::uint16_t boot_no_vga = 1u << 2, boot_legacy = 1u << 0;
  constexpr std::uint32_t flag_wbinvd = 1u << 0, flag_c1 = 1u << 2, flag_no_sleep_button = 1u << 5,
                          flag_no_rtc_wake = 1u << 6, flag_reset = 1u << 10;
  Table table("FACP", 5);
  table.u32(0);  // FACS: there is no firmware that would need one
  table.u32(dsdt);
  table.u8(0);
  table.u8(0);  // preferred profile: unspecified
  table.u16(AcpiPm::irq);
  table.u32(0);  // SMI command port: none, so ACPI mode is always on
  table.zeros(4);
  table.u32(AcpiPm::event_port);
  table.u32(0);
  table.u32(AcpiPm::control_port);
  table.u32(0);
  table.u32(0);  // PM2
  table.u32(0);  // PM timer
  table.u32(0);  // GPE0
  table.u32(0);  // GPE1
  table.u8(4);   // bytes of PM1_EVT, PM1_CNT, PM2, PM timer, GPE0, GPE1, GPE1 base
  table.u8(2);
  table.zeros(5);
  table.u8(0);
  table.u16(0xffff);  // C2 and C3 latencies: not supported
  table.u16(0xffff);
  table.zeros(4);  // flush size and stride
  table.u8(0);     // duty
  table.u8(0);
  table.u8(0);     // day alarm
  table.u8(0);     // month alarm
  table.u8(0x32);  // century register in CMOS
  table.u16(boot_legacy | boot_no_vga);
  table.u8(0);
  table.u32(flag_wbinvd | flag_c1 | flag_no_sleep_button | flag_no_rtc_wake | flag_reset);
  table.io_address(Reset::reset_port, 8, 1);
  table.u8(0x06);  // value to reset
  table.u16(0);    // ARM flags
  table.u8(1);     // minor revision
  table.u64(0);    // FACS
  table.u64(dsdt);
  table.io_address(AcpiPm::event_port, 32, 2);
  table.io_address(0, 0, 0);
  table.io_address(AcpiPm::control_port, 16, 2);
  for (int i = 0; i < 5; ++i)
    table.io_address(0, 0, 0);
  for (int i = 0; i < 2; ++i)
    table.io_address(0, 0, 0);  // sleep control and status
  return table;
}

Table make_madt() {
  constexpr std::uint32_t has_8259 = 1;
  Table table("APIC", 3);
  table.u32(Lapic::default_base);
  table.u32(has_8259);
  table.u8(0);  // local APIC
  table.u8(8);
  table.u8(0);   // processor
  table.u8(0);   // APIC id
  table.u32(1);  // enabled
  table.u8(1);   // I/O APIC
  table.u8(12);
  table.u8(Ioapic::id);
  table.u8(0);
  table.u32(Ioapic::base);
  table.u32(0);  // its first interrupt
  const auto override_isa = [&](unsigned irq, unsigned input, unsigned flags) {
    table.u8(2);
    table.u8(10);
    table.u8(0);  // ISA
    table.u8(irq);
    table.u32(input);
    table.u16(flags);
  };
  override_isa(0, 2, 0);                           // the timer
  override_isa(AcpiPm::irq, AcpiPm::irq, 0x000d);  // SCI: active high, level-triggered
  table.u8(4);                                     // NMI
  table.u8(6);
  table.u8(0xff);
  table.u16(0);
  table.u8(1);  // LINT1
  return table;
}

Table make_rsdp(std::uint64_t xsdt) {
  Table table;
  table.text("RSD PTR ", 8);
  table.u8(0);
  table.text("NDMESH", 6);
  table.u8(2);
  table.u32(0);  // no RSDT
  table.u32(36);
  table.u64(xsdt);
  table.u8(0);
  table.zeros(3);
  table.set_checksum(8, 20);
  table.set_checksum(32, 36);
  return table;
}

}  // namespace

void write_acpi_tables(GuestMemory& memory) {
  Area area(memory);
  const std::uint64_t dsdt = area.add(make_dsdt().finish());
  const std::uint64_t fadt = area.add(make_fadt(dsdt).finish());
  const std::uint64_t madt = area.add(make_madt().finish());
  Table xsdt("XSDT", 1);
  xsdt.u64(fadt);
  xsdt.u64(madt);
  const std::uint64_t xsdt_gpa = area.add(xsdt.finish());
  NM_CHECK(memory.write(acpi_rsdp_gpa, make_rsdp(xsdt_gpa).bytes()));
}

}  // namespace node_mesh
