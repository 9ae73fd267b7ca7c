#include "devices/ioapic/ioapic.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t select_offset = 0x00, window_offset = 0x10, eoi_offset = 0x40;
constexpr std::uint8_t reg_id = 0, reg_version = 1, reg_arbitration = 2, reg_entries = 0x10;
constexpr std::uint32_t version = 0x20 | (Ioapic::pins - 1) << 16;
constexpr std::uint64_t entry_masked = 1u << 16, entry_level = 1u << 15, entry_remote = 1u << 14,
                        entry_pending = 1u << 12, entry_logical = 1u << 11;
constexpr std::uint64_t entry_writable_low = 0x1afff;  // all but "pending" and "remote IRR"
constexpr std::uint64_t delivery_lowest = 1;

}  // namespace

Ioapic::Ioapic(Lapic& lapic) : lapic_(lapic) { entries_.fill(entry_masked); }

void Ioapic::set_pin(unsigned pin, bool asserted) {
  if (pin >= pins) return;
  const std::uint32_t mask = 1u << pin;
  const bool was = (lines_ & mask) != 0;
  if (asserted) {
    lines_ |= mask;
    if (!was) pending_ |= mask;
  } else {
    lines_ &= ~mask;
  }
  service(pin);
}

// Sends what the pin has to say, if its entry allows it. An edge that comes while the entry is
// masked waits for the unmasking: losing it would lose a device's only call.
void Ioapic::service(unsigned pin) {
  std::uint64_t& entry = entries_[pin];
  const std::uint32_t mask = 1u << pin;
  const bool level = (entry & entry_level) != 0;
  const bool wanted =
      level ? (lines_ & mask) != 0 && (entry & entry_remote) == 0 : (pending_ & mask) != 0;
  if (!wanted || (entry & entry_masked) != 0) return;
  if (((entry >> 8) & 7u) > delivery_lowest) return;  // NMI, SMI, INIT, ExtINT have no taker
  pending_ &= ~mask;
  const bool taken =
      lapic_.deliver(static_cast<std::uint8_t>(entry >> 56), (entry & entry_logical) != 0,
                     static_cast<std::uint8_t>(entry), level);
  if (taken && level) entry |= entry_remote;
}

void Ioapic::level_interrupt_ended(std::uint8_t vector) {
  for (unsigned pin = 0; pin < pins; ++pin) {
    if (static_cast<std::uint8_t>(entries_[pin]) != vector) continue;
    if ((entries_[pin] & entry_remote) == 0) continue;
    entries_[pin] &= ~entry_remote;
    service(pin);
  }
}

std::uint32_t Ioapic::read_register() const {
  if (select_ == reg_id || select_ == reg_arbitration) return id_register_;
  if (select_ == reg_version) return version;
  if (select_ < reg_entries || select_ >= reg_entries + 2 * pins) return 0;
  const std::uint64_t entry = entries_[(select_ - reg_entries) / 2u];
  return static_cast<std::uint32_t>((select_ & 1u) != 0 ? entry >> 32 : entry);
}

void Ioapic::write_register(std::uint32_t value) {
  if (select_ == reg_id) id_register_ = value & 0x0f00'0000;
  if (select_ < reg_entries || select_ >= reg_entries + 2 * pins) return;
  const unsigned pin = (select_ - reg_entries) / 2u;
  std::uint64_t& entry = entries_[pin];
  if ((select_ & 1u) != 0) {
    entry = (entry & 0xffff'ffff) | (std::uint64_t{value & 0xff00'0000} << 32);
    return;
  }
  entry = (entry & ~std::uint64_t{entry_writable_low}) | (value & entry_writable_low);
  // Turned to edge: nothing is outstanding any more. Drivers clear a stuck remote IRR this way.
  if ((entry & entry_level) == 0) entry &= ~entry_remote;
  entry &= ~entry_pending;
  service(pin);
}

std::uint64_t Ioapic::read(std::uint64_t offset, unsigned size, std::uint64_t) {
  std::uint32_t value = 0;
  if (offset == select_offset) {
    value = select_;
  } else if (offset == window_offset) {
    value = read_register();
  }
  return size >= 4 ? value : value & ((1u << (8 * size)) - 1);
}

void Ioapic::write(std::uint64_t offset, unsigned size, std::uint64_t value, std::uint64_t) {
  if (offset == select_offset) {
    select_ = static_cast<std::uint8_t>(value);
  } else if (size < 4) {
    return;
  } else if (offset == window_offset) {
    write_register(static_cast<std::uint32_t>(value));
  } else if (offset == eoi_offset) {
    level_interrupt_ended(static_cast<std::uint8_t>(value));
  }
}

void Ioapic::save(StateWriter& out) const {
  out.u8(select_);
  out.u32(id_register_);
  out.u32(lines_);
  out.u32(pending_);
  for (const std::uint64_t entry : entries_)
    out.u64(entry);
}

bool Ioapic::load(StateReader& in) {
  select_ = in.u8();
  id_register_ = in.u32();
  lines_ = in.u32();
  pending_ = in.u32();
  for (std::uint64_t& entry : entries_)
    entry = in.u64();
  return in.ok();
}

}  // namespace node_mesh
