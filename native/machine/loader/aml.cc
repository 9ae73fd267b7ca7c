#include "machine/loader/aml.h"

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "devices/acpi_pm/acpi_pm.h"
#include "devices/pci_host/pci_host.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr unsigned op_zero = 0x00, op_name = 0x08, op_byte = 0x0a, op_dword = 0x0c, op_scope = 0x10,
                   op_buffer = 0x11, op_package = 0x12, op_extended = 0x5b, op_device = 0x82;

class Aml {
 public:
  Aml& byte(std::uint64_t value) { return number(value, 1); }
  Aml& number(std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i)
      bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
    return *this;
  }
  Aml& text(std::string_view value) {
    for (const char c : value)
      byte(static_cast<std::uint8_t>(c));
    return *this;
  }
  Aml& add(const Aml& other) {
    bytes_.insert(bytes_.end(), other.bytes_.begin(), other.bytes_.end());
    return *this;
  }
  // The package length counts itself.
  Aml& sized(const Aml& body) {
    const std::size_t size = body.bytes_.size();
    if (size + 1 < 0x40) {
      byte(size + 1);
    } else {
      NM_CHECK(size + 2 < 0x1000);
      byte(0x40 | ((size + 2) & 0x0f)).byte((size + 2) >> 4);
    }
    return add(body);
  }
  std::size_t size() const { return bytes_.size(); }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

Aml named(std::string_view name, const Aml& value) {
  return Aml().byte(op_name).text(name).add(value);
}

Aml package(unsigned count, const Aml& elements) {
  return Aml().byte(op_package).sized(Aml().byte(count).add(elements));
}

// Name (_S5, Package () {5, 5, 0, 0})
Aml soft_off() {
  Aml elements;
  for (int i = 0; i < 2; ++i)
    elements.byte(op_byte).byte(AcpiPm::sleep_type_off);
  return named("_S5_", package(4, elements.byte(op_zero).byte(op_zero)));
}

// A word or doubleword address space descriptor: a window from `first` to `last`.
Aml window(unsigned type, unsigned type_flags, std::uint64_t first, std::uint64_t last,
           unsigned size) {
  constexpr unsigned fixed_at_both_ends = 0x0c;
  Aml out;
  out.byte(size == 2 ? 0x88 : 0x87).number(3 + 5 * size, 2);
  out.byte(type).byte(fixed_at_both_ends).byte(type_flags);
  for (const std::uint64_t value : {std::uint64_t{0}, first, last, std::uint64_t{0}}) {
    out.number(value, size);
  }
  return out.number(last - first + 1, size);
}

Aml resources() {
  constexpr unsigned memory = 0, io = 1, bus = 2, whole_io_range = 3, read_write = 1;
  Aml list;
  list.add(window(bus, 0, 0, 0, 2));
  list.byte(0x47).byte(1).number(PciHost::address_port, 2).number(PciHost::address_port, 2);
  list.byte(1).byte(8);  // alignment and length of the configuration ports
  list.add(window(io, whole_io_range, 0x0d00, 0xffff, 2));
  list.add(window(memory, read_write, pci_memory_start, pci_memory_end - 1, 4));
  list.byte(0x79).byte(0);  // the end
  NM_CHECK(list.size() < 0x100);
  return Aml().byte(op_buffer).sized(Aml().byte(op_byte).byte(list.size()).add(list));
}

// Package () {slot and all its functions, pin A, no link device, input of the I/O APIC}
Aml routing() {
  Aml entries;
  for (unsigned slot = 1; slot < pci_slots; ++slot) {
    Aml entry;
    entry.byte(op_dword).number(slot << 16 | 0xffff, 4).byte(op_zero).byte(op_zero);
    entry.byte(op_byte).byte(pci_interrupt_input(slot));
    entries.add(package(4, entry));
  }
  return package(pci_slots - 1, entries);
}

Aml pci_bus() {
  constexpr std::uint32_t pnp0a03 = 0x030a'd041;
  Aml body;
  body.text("PCI0");
  body.add(named("_HID", Aml().byte(op_dword).number(pnp0a03, 4)));
  body.add(named("_UID", Aml().byte(op_zero)));
  body.add(named("_CRS", resources()));
  body.add(named("_PRT", routing()));
  return Aml().byte(op_extended).byte(op_device).sized(body);
}

}  // namespace

std::vector<std::byte> aml_definitions() {
  Aml all = soft_off();
  all.byte(op_scope).sized(Aml().text("_SB_").add(pci_bus()));
  return all.take();
}

}  // namespace node_mesh
