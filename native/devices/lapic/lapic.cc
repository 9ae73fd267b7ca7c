#include "devices/lapic/lapic.h"

#include <bit>

namespace node_mesh {
namespace {

// Registers, by their offset divided by 16.
enum Register : unsigned {
  reg_id = 0x02,
  reg_version = 0x03,
  reg_task_priority = 0x08,
  reg_arbitration = 0x09,
  reg_processor_priority = 0x0a,
  reg_eoi = 0x0b,
  reg_logical_destination = 0x0d,
  reg_destination_format = 0x0e,
  reg_spurious = 0x0f,
  reg_service = 0x10,
  reg_level = 0x18,
  reg_request = 0x20,
  reg_error_status = 0x28,
  reg_command_low = 0x30,
  reg_command_high = 0x31,
  reg_lvt_timer = 0x32,
  reg_lvt_error = 0x37,
  reg_initial_count = 0x38,
  reg_current_count = 0x39,
  reg_divide = 0x3e,
};

constexpr std::uint32_t version = 0x0005'0014;  // an integrated APIC with six local vectors
constexpr std::uint32_t lvt_masked = 1u << 16;
constexpr std::uint32_t error_send_vector = 1u << 5, error_receive_vector = 1u << 6,
                        error_register = 1u << 7;
constexpr unsigned delivery_fixed = 0, delivery_lowest = 1, delivery_external = 7;
constexpr unsigned mode_one_shot = 0, mode_periodic = 1, mode_tsc_deadline = 2;

template <typename Vectors>
int highest(const Vectors& vectors) {
  for (int word = 7; word >= 0; --word) {
    const std::uint32_t bits = vectors[static_cast<std::size_t>(word)];
    if (bits != 0) return word * 32 + 31 - std::countl_zero(bits);
  }
  return -1;
}

constexpr std::uint32_t bit_of(unsigned vector) { return 1u << (vector & 31u); }

}  // namespace

std::uint32_t Lapic::processor_priority() const {
  const int in_service = highest(service_);
  const std::uint32_t serving = in_service < 0 ? 0 : static_cast<std::uint32_t>(in_service) & 0xf0u;
  return (task_priority_ & 0xf0u) >= serving ? task_priority_ : serving;
}

bool Lapic::interrupt_pending() const {
  if (!globally_enabled() || !software_enabled()) return false;
  const int requested = highest(request_);
  return requested >= 0 &&
         (static_cast<std::uint32_t>(requested) & 0xf0u) > (processor_priority() & 0xf0u);
}

std::uint8_t Lapic::acknowledge() {
  if (!interrupt_pending()) return static_cast<std::uint8_t>(spurious_);
  const auto vector = static_cast<unsigned>(highest(request_));
  request_[vector / 32] &= ~bit_of(vector);
  service_[vector / 32] |= bit_of(vector);
  return static_cast<std::uint8_t>(vector);
}

void Lapic::accept(std::uint8_t vector, bool level) {
  if (vector < 16) {
    raise_error(error_receive_vector);
    return;
  }
  request_[vector / 32u] |= bit_of(vector);
  if (level) {
    level_[vector / 32u] |= bit_of(vector);
  } else {
    level_[vector / 32u] &= ~bit_of(vector);
  }
}

void Lapic::raise_error(std::uint32_t bit) {
  const bool already = (errors_seen_ & bit) != 0;
  errors_seen_ |= bit;
  // An error vector below 16 would be an error of its own; it must not raise itself for ever.
  if (!already && (lvt_[error] & 0xff) >= 16) fire_local(error);
}

void Lapic::fire_local(LocalVector which) {
  const std::uint32_t entry = lvt_[which];
  if ((entry & lvt_masked) != 0 || !globally_enabled()) return;
  // The timer and the error vector have no delivery mode: they are always fixed.
  if (which != timer && which != error && ((entry >> 8) & 7u) != delivery_fixed) return;
  accept(static_cast<std::uint8_t>(entry), false);
}

void Lapic::end_of_interrupt() {
  const int in_service = highest(service_);
  if (in_service < 0) return;
  const auto vector = static_cast<unsigned>(in_service);
  service_[vector / 32] &= ~bit_of(vector);
  if ((level_[vector / 32] & bit_of(vector)) != 0 && sink_ != nullptr) {
    sink_->level_interrupt_ended(static_cast<std::uint8_t>(vector));
  }
}

bool Lapic::addressed(std::uint8_t destination, bool logical) const {
  if (destination == 0xff) return true;
  if (!logical) return destination == id_ >> 24;
  const std::uint32_t mine = logical_destination_ >> 24;
  if (destination_format_ >> 28 == 0xf) return (destination & mine) != 0;
  return (destination & 0xf0u) == (mine & 0xf0u) && (destination & mine & 0x0fu) != 0;
}

bool Lapic::deliver(std::uint8_t destination, bool logical, std::uint8_t vector, bool level) {
  if (!globally_enabled() || !software_enabled() || !addressed(destination, logical)) return false;
  accept(vector, level);
  return true;
}

void Lapic::send_ipi(std::uint32_t command) {
  const unsigned delivery = (command >> 8) & 7u;
  const unsigned shorthand = (command >> 18) & 3u;
  const auto destination = static_cast<std::uint8_t>(command_high_ >> 24);
  const auto vector = static_cast<std::uint8_t>(command);
  if (delivery != delivery_fixed && delivery != delivery_lowest) return;
  if (vector < 16) {
    raise_error(error_send_vector);
    return;
  }
  const bool to_self = shorthand == 1 || shorthand == 2 ||
                       (shorthand == 0 && addressed(destination, (command & 0x800) != 0));
  if (to_self && globally_enabled()) accept(vector, false);
}

void Lapic::set_lint0(bool asserted) {
  if (asserted && !lint0_asserted_) fire_local(lint0);
  lint0_asserted_ = asserted;
}

bool Lapic::passes_external_interrupts() const {
  if (!globally_enabled()) return true;
  return (lvt_[lint0] & lvt_masked) == 0 && ((lvt_[lint0] >> 8) & 7u) == delivery_external;
}

// ---- The timer

std::uint64_t Lapic::timer_unit_ns() const {
  const unsigned code = (divide_ & 3u) | ((divide_ >> 1) & 4u);
  return tick_ns << ((code + 1) & 7u);  // code 7 divides by 1
}

std::uint32_t Lapic::current_count(std::uint64_t now_ns) const {
  if (initial_count_ == 0 || timer_mode() == mode_tsc_deadline) return 0;
  const std::uint64_t passed = (now_ns - timer_start_ns_) / timer_unit_ns();
  if (timer_mode() == mode_periodic) {
    return static_cast<std::uint32_t>(initial_count_ - passed % initial_count_);
  }
  return passed >= initial_count_ ? 0 : static_cast<std::uint32_t>(initial_count_ - passed);
}

void Lapic::start_timer(std::uint32_t count, std::uint64_t now_ns) {
  initial_count_ = count;
  timer_start_ns_ = now_ns;
  timer_periods_told_ = 0;
}

// The count goes on from where it is, at the new speed.
void Lapic::set_divide(std::uint32_t value, std::uint64_t now_ns) {
  const std::uint32_t count = current_count(now_ns);
  divide_ = value & 0x0b;
  if (count == 0) return;
  const std::uint64_t passed = (initial_count_ - count) * timer_unit_ns();
  timer_start_ns_ = passed > now_ns ? 0 : now_ns - passed;
  timer_periods_told_ = 0;
}

std::uint64_t Lapic::deadline_ns() const {
  if (!globally_enabled()) return no_deadline;
  if (timer_mode() == mode_tsc_deadline) {
    if (tsc_deadline_ == 0) return no_deadline;
    // The offset is a signed shift: a deadline may lie before virtual time 0 (due at once) or
    // behind all of it.
    using Wide = __int128;
    const Wide due = Wide{tsc_deadline_} - static_cast<std::int64_t>(tsc_offset_);
    if (due < 0) return 0;
    return due > Wide{UINT64_MAX} ? no_deadline : static_cast<std::uint64_t>(due);
  }
  if (initial_count_ == 0) return no_deadline;
  if (timer_mode() == mode_one_shot && timer_periods_told_ != 0) return no_deadline;
  return timer_start_ns_ + (timer_periods_told_ + 1) * initial_count_ * timer_unit_ns();
}

void Lapic::advance(std::uint64_t now_ns) {
  if (now_ns < deadline_ns()) return;
  if (timer_mode() == mode_tsc_deadline) {
    tsc_deadline_ = 0;
  } else {
    timer_periods_told_ = (now_ns - timer_start_ns_) / (initial_count_ * timer_unit_ns());
  }
  fire_local(timer);
}

// ---- Model specific registers

bool Lapic::msr_read(std::uint32_t index, std::uint64_t& value) const {
  if (index == msr_apic_base) {
    value = base_msr_;
  } else if (index == msr_tsc_deadline) {
    value = timer_mode() == mode_tsc_deadline ? tsc_deadline_ : 0;
  } else {
    return false;
  }
  return true;
}

bool Lapic::msr_write(std::uint32_t index, std::uint64_t value, std::uint64_t) {
  if (index == msr_tsc_deadline) {
    if (timer_mode() == mode_tsc_deadline) tsc_deadline_ = value;
    return true;
  }
  if (index != msr_apic_base) return false;
  if ((value & ~(base_address | base_enabled | base_bootstrap)) != 0) return false;
  const bool was_enabled = globally_enabled();
  base_msr_ = (value & (base_address | base_enabled)) | base_bootstrap;
  if (was_enabled && !globally_enabled()) {  // comes back as after a reset
    const Lapic fresh;
    const std::uint64_t kept = base_msr_;
    EndOfInterruptSink* const sink = sink_;
    const std::uint64_t offset = tsc_offset_;
    const bool lint0_was = lint0_asserted_;
    *this = fresh;
    base_msr_ = kept;
    sink_ = sink;
    tsc_offset_ = offset;
    lint0_asserted_ = lint0_was;
    spurious_ = 0xff;
    lvt_.fill(lvt_masked);
  }
  return true;
}

// ---- Registers

std::uint32_t Lapic::read_register(unsigned index, std::uint64_t now_ns) {
  if (index >= reg_service && index < reg_service + 8) return service_[index - reg_service];
  if (index >= reg_level && index < reg_level + 8) return level_[index - reg_level];
  if (index >= reg_request && index < reg_request + 8) return request_[index - reg_request];
  if (index >= reg_lvt_timer && index <= reg_lvt_error) return lvt_[index - reg_lvt_timer];
  switch (index) {
    case reg_id:
      return id_;
    case reg_version:
      return version;
    case reg_task_priority:
      return task_priority_;
    case reg_arbitration:
      return 0;
    case reg_processor_priority:
      return processor_priority();
    case reg_logical_destination:
      return logical_destination_;
    case reg_destination_format:
      return destination_format_;
    case reg_spurious:
      return spurious_;
    case reg_error_status:
      return error_status_;
    case reg_command_low:
      return command_low_;
    case reg_command_high:
      return command_high_;
    case reg_initial_count:
      return timer_mode() == mode_tsc_deadline ? 0 : initial_count_;
    case reg_current_count:
      return current_count(now_ns);
    case reg_divide:
      return divide_;
    default:
      raise_error(error_register);
      return 0;
  }
}

void Lapic::disable_local_vectors() {
  for (std::uint32_t& entry : lvt_)
    entry |= lvt_masked;
}

void Lapic::write_local_vector(LocalVector which, std::uint32_t value) {
  constexpr std::array<std::uint32_t, local_vectors> writable{0x700ff, 0x107ff, 0x107ff,
                                                              0x1a7ff, 0x1a7ff, 0x100ff};
  value &= writable[which];
  if (!software_enabled()) value |= lvt_masked;
  if (which == timer && ((value ^ lvt_[timer]) & (3u << 17)) != 0) {
    // Another mode disarms the timer when TSC deadline is one of the two, as it is specified.
    const bool deadline_mode = (value >> 17 & 3u) == mode_tsc_deadline;
    if (deadline_mode || timer_mode() == mode_tsc_deadline) initial_count_ = 0;
    tsc_deadline_ = 0;
  }
  lvt_[which] = value;
}

void Lapic::write_register(unsigned index, std::uint32_t value, std::uint64_t now_ns) {
  if (index >= reg_lvt_timer && index <= reg_lvt_error) {
    write_local_vector(static_cast<LocalVector>(index - reg_lvt_timer), value);
    return;
  }
  switch (index) {
    case reg_id:
      id_ = value & 0xff00'0000;
      return;
    case reg_task_priority:
      task_priority_ = value & 0xff;
      return;
    case reg_eoi:
      end_of_interrupt();
      return;
    case reg_logical_destination:
      logical_destination_ = value & 0xff00'0000;
      return;
    case reg_destination_format:
      destination_format_ = value | 0x0fff'ffff;
      return;
    case reg_spurious:
      spurious_ = value & 0x3ff;
      if (!software_enabled()) disable_local_vectors();
      return;
    case reg_error_status:  // any write takes over what was seen since the last one
      error_status_ = errors_seen_;
      errors_seen_ = 0;
      return;
    case reg_command_low:
      command_low_ = value & 0x000c'cfff;  // delivery is over at once: never "send pending"
      send_ipi(command_low_);
      return;
    case reg_command_high:
      command_high_ = value & 0xff00'0000;
      return;
    case reg_initial_count:
      if (timer_mode() != mode_tsc_deadline) start_timer(value, now_ns);
      return;
    case reg_divide:
      set_divide(value, now_ns);
      return;
    case reg_version:
    case reg_arbitration:
    case reg_processor_priority:
    case reg_current_count:
      return;  // read-only
    default:
      if (index < reg_service || index >= reg_request + 8) raise_error(error_register);
      return;
  }
}

std::uint64_t Lapic::read(std::uint64_t offset, unsigned size, std::uint64_t now_ns) {
  // Registers are 32 bits wide at multiples of 16; anything else in between reads as zero.
  if ((offset & 15u) >= 4) return 0;
  const std::uint32_t value = read_register(static_cast<unsigned>(offset >> 4), now_ns);
  const std::uint64_t shifted = std::uint64_t{value} >> (8 * (offset & 3u));
  return size >= 4 ? shifted : shifted & ((1u << (8 * size)) - 1);
}

void Lapic::write(std::uint64_t offset, unsigned size, std::uint64_t value, std::uint64_t now_ns) {
  if ((offset & 15u) != 0 || size < 4) return;
  write_register(static_cast<unsigned>(offset >> 4), static_cast<std::uint32_t>(value), now_ns);
}

void Lapic::save(StateWriter& out) const {
  out.u64(base_msr_);
  for (const std::uint32_t value :
       {id_, task_priority_, logical_destination_, destination_format_, spurious_, error_status_,
        errors_seen_, command_low_, command_high_, initial_count_, divide_}) {
    out.u32(value);
  }
  for (const std::uint32_t value : lvt_)
    out.u32(value);
  for (const Vectors* vectors : {&request_, &service_, &level_}) {
    for (const std::uint32_t value : *vectors)
      out.u32(value);
  }
  out.u64(timer_start_ns_);
  out.u64(timer_periods_told_);
  out.u64(tsc_deadline_);
  out.flag(lint0_asserted_);
}

bool Lapic::load(StateReader& in) {
  base_msr_ = in.u64();
  for (std::uint32_t* value :
       {&id_, &task_priority_, &logical_destination_, &destination_format_, &spurious_,
        &error_status_, &errors_seen_, &command_low_, &command_high_, &initial_count_, &divide_}) {
    *value = in.u32();
  }
  for (std::uint32_t& value : lvt_)
    value = in.u32();
  for (Vectors* vectors : {&request_, &service_, &level_}) {
    for (std::uint32_t& value : *vectors)
      value = in.u32();
  }
  timer_start_ns_ = in.u64();
  timer_periods_told_ = in.u64();
  tsc_deadline_ = in.u64();
  lint0_asserted_ = in.flag();
  return in.ok();
}

}  // namespace node_mesh
