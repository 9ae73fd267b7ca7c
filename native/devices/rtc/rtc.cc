#include "devices/rtc/rtc.h"

#include <algorithm>

namespace node_mesh {
namespace {

enum Register : unsigned {
  seconds = 0,
  seconds_alarm,
  minutes,
  minutes_alarm,
  hours,
  hours_alarm,
  weekday,
  day,
  month,
  year,
  register_a,
  register_b,
  register_c,
  register_d,
  century = 0x32,
};

constexpr std::uint8_t flag_update = 0x10, flag_alarm = 0x20, flag_periodic = 0x40, flag_any = 0x80;
constexpr std::uint8_t b_24_hours = 0x02, b_binary = 0x04;
// UIP is set from 244 us before the registers change until they have.
constexpr std::uint64_t update_ns = 244'000;
// Nanoseconds since 1970 fit into 64 bits until the year 2554; later times count as this one.
constexpr std::int64_t seconds_max = 18'000'000'000;

bool is_time_register(unsigned index) {
  return index == seconds || index == minutes || index == hours ||
         (index >= weekday && index <= year) || index == century;
}

}  // namespace

Rtc::Rtc(InterruptLines& lines, std::uint64_t start_realtime_ns)
    : lines_(lines), base_realtime_ns_(start_realtime_ns) {}

std::uint64_t Rtc::realtime_ns(std::uint64_t now_ns) const { return base_realtime_ns_ + now_ns; }

std::uint8_t Rtc::encode(unsigned value) const {
  if ((b_ & b_binary) != 0) return static_cast<std::uint8_t>(value);
  return static_cast<std::uint8_t>((value / 10 % 10) << 4 | value % 10);
}

unsigned Rtc::decode(std::uint8_t value) const {
  return (b_ & b_binary) != 0 ? value : (value >> 4) * 10u + (value & 15u);
}

unsigned Rtc::decode_hour(std::uint8_t value) const {
  if ((b_ & b_24_hours) != 0) return decode(value) % 24;
  return decode(value & 0x7f) % 12 + ((value & 0x80) != 0 ? 12 : 0);
}

void Rtc::encode_time(const CivilTime& time) {
  memory_[seconds] = encode(time.second);
  memory_[minutes] = encode(time.minute);
  if ((b_ & b_24_hours) != 0) {
    memory_[hours] = encode(time.hour);
  } else {
    const std::uint8_t hour = encode(time.hour % 12 == 0 ? 12 : time.hour % 12);
    memory_[hours] = static_cast<std::uint8_t>(hour | (time.hour >= 12 ? 0x80 : 0));
  }
  memory_[weekday] = encode(time.weekday + 1);
  memory_[day] = encode(time.day);
  memory_[month] = encode(time.month);
  memory_[year] = encode(time.year % 100);
  memory_[century] = encode(time.year / 100 % 100);
}

CivilTime Rtc::decode_time() const {
  CivilTime time;
  time.second = decode(memory_[seconds]);
  time.minute = decode(memory_[minutes]);
  time.hour = decode_hour(memory_[hours]);
  time.day = std::max(decode(memory_[day]), 1u);
  time.month = std::clamp(decode(memory_[month]), 1u, 12u);
  time.year = decode(memory_[century]) * 100 + decode(memory_[year]);
  return time;
}

// The guest ends setting: from now on time runs from what the registers say. A time before 1970
// counts as 1970.
void Rtc::start_clock(std::uint64_t now_ns) {
  const std::int64_t set =
      std::clamp<std::int64_t>(seconds_since_1970(decode_time()), 0, seconds_max);
  base_realtime_ns_ = static_cast<std::uint64_t>(set) * ns_per_second - now_ns;
}

std::uint64_t Rtc::next_second_ns(std::uint64_t after_ns) const {
  return after_ns + ns_per_second - realtime_ns(after_ns) % ns_per_second;
}

std::uint64_t Rtc::next_alarm_ns(std::uint64_t after_ns) const {
  // The two top bits set mean "any".
  const auto any = [this](unsigned index) { return (memory_[index] & 0xc0) == 0xc0; };
  const unsigned want_second = decode(memory_[seconds_alarm]);
  const unsigned want_minute = decode(memory_[minutes_alarm]);
  const unsigned want_hour = decode_hour(memory_[hours_alarm]);
  const std::uint64_t first_second = realtime_ns(after_ns) / ns_per_second + 1;
  std::uint64_t second = first_second;
  // Each round moves on to the next hour, minute or second: at most 24 + 60 + 60 rounds matter.
  while (second < first_second + 86400 + 3600) {
    const std::uint64_t of_day = second % 86400;
    if (!any(hours_alarm) && of_day / 3600 != want_hour) {
      second += 3600 - of_day % 3600;
    } else if (!any(minutes_alarm) && of_day / 60 % 60 != want_minute) {
      second += 60 - of_day % 60;
    } else if (!any(seconds_alarm) && of_day % 60 != want_second) {
      ++second;
      if (want_second > 59) return no_deadline;
    } else {
      return after_ns + (second * ns_per_second - realtime_ns(after_ns));
    }
  }
  return no_deadline;
}

std::uint64_t Rtc::period_ns() const {
  unsigned rate = a_ & 15u;
  if (rate == 0) return 0;
  if (rate <= 2) rate += 7;
  // 32768 Hz >> (rate - 1); every such period is more than 122 us.
  return (ns_per_second << (rate - 1)) / 32768;
}

// What happened in (flags_from_ns_, now] goes into register C.
void Rtc::collect_flags(std::uint64_t now_ns) {
  if (now_ns <= flags_from_ns_) return;
  if (!setting()) {
    if (next_second_ns(flags_from_ns_) <= now_ns) c_ |= flag_update;
    if (next_alarm_ns(flags_from_ns_) <= now_ns) c_ |= flag_alarm;
  }
  const std::uint64_t period = period_ns();
  if (period != 0 && now_ns / period != flags_from_ns_ / period) c_ |= flag_periodic;
  flags_from_ns_ = now_ns;
}

void Rtc::update_irq() {
  const bool asserted = (c_ & b_ & 0x70) != 0;
  c_ = static_cast<std::uint8_t>((c_ & 0x70) | (asserted ? flag_any : 0));
  if (asserted == irq_asserted_) return;
  irq_asserted_ = asserted;
  lines_.set_irq(irq, asserted);
}

std::uint64_t Rtc::deadline_ns() const {
  // Once the line is up, nothing changes until register C is read.
  if ((b_ & 0x70) == 0 || irq_asserted_) return no_deadline;
  std::uint64_t deadline = no_deadline;
  if (!setting() && (b_ & flag_update) != 0) deadline = next_second_ns(flags_from_ns_);
  if (!setting() && (b_ & flag_alarm) != 0) {
    deadline = std::min(deadline, next_alarm_ns(flags_from_ns_));
  }
  const std::uint64_t period = period_ns();
  if (period != 0 && (b_ & flag_periodic) != 0) {
    deadline = std::min(deadline, (flags_from_ns_ / period + 1) * period);
  }
  return deadline;
}

void Rtc::advance(std::uint64_t now_ns) {
  if (now_ns < deadline_ns()) return;
  collect_flags(now_ns);
  update_irq();
}

std::uint8_t Rtc::read_register(unsigned index, std::uint64_t now_ns) {
  if (is_time_register(index) && !setting()) {
    encode_time(civil_time(static_cast<std::int64_t>(realtime_ns(now_ns) / ns_per_second)));
  }
  switch (index) {
    case register_a: {
      const bool updating = realtime_ns(now_ns) % ns_per_second >= ns_per_second - update_ns;
      return static_cast<std::uint8_t>(a_ | (updating && !setting() ? 0x80 : 0));
    }
    case register_b:
      return b_;
    case register_c: {
      collect_flags(now_ns);
      update_irq();
      const std::uint8_t value = c_;
      c_ = 0;
      update_irq();
      return value;
    }
    case register_d:
      return 0x80;  // the battery is good
    default:
      return memory_[index];
  }
}

void Rtc::write_time_register(unsigned index, std::uint8_t value, std::uint64_t now_ns) {
  if (setting()) {
    memory_[index] = value;
    return;
  }
  const std::uint64_t fraction_ns = realtime_ns(now_ns) % ns_per_second;
  encode_time(civil_time(static_cast<std::int64_t>(realtime_ns(now_ns) / ns_per_second)));
  memory_[index] = value;
  start_clock(now_ns);
  base_realtime_ns_ += fraction_ns;
}

void Rtc::write_register(unsigned index, std::uint8_t value, std::uint64_t now_ns) {
  collect_flags(now_ns);
  if (is_time_register(index)) {
    write_time_register(index, value, now_ns);
  } else if (index == register_a) {
    a_ = value & 0x7f;
  } else if (index == register_b) {
    const bool was_setting = setting();
    if (!was_setting) {  // the registers keep the moment, in the format that was
      encode_time(civil_time(static_cast<std::int64_t>(realtime_ns(now_ns) / ns_per_second)));
    }
    b_ = value;
    if (was_setting && !setting()) start_clock(now_ns);
    if (setting()) b_ &= static_cast<std::uint8_t>(~flag_update);
  } else if (index != register_c && index != register_d) {
    memory_[index] = value;
  }
  update_irq();
}

std::uint32_t Rtc::read(std::uint16_t port, unsigned, std::uint64_t now_ns) {
  if ((port & 1u) == 0) return 0xff;  // the index register is write-only
  return read_register(index_, now_ns);
}

void Rtc::write(std::uint16_t port, unsigned, std::uint32_t value, std::uint64_t now_ns) {
  if ((port & 1u) == 0) {
    index_ = value & 0x7f;  // bit 7 masks NMI, of which there is none
  } else {
    write_register(index_, static_cast<std::uint8_t>(value), now_ns);
  }
}

void Rtc::save(StateWriter& out) const {
  out.u64(base_realtime_ns_);
  for (const std::uint8_t value : memory_)
    out.u8(value);
  for (const std::uint8_t value : {index_, a_, b_, c_})
    out.u8(value);
  out.u64(flags_from_ns_);
  out.flag(irq_asserted_);
}

bool Rtc::load(StateReader& in) {
  base_realtime_ns_ = in.u64();
  for (std::uint8_t& value : memory_)
    value = in.u8();
  for (std::uint8_t* value : {&index_, &a_, &b_, &c_})
    *value = in.u8();
  in.require(index_ < memory_.size());
  flags_from_ns_ = in.u64();
  irq_asserted_ = in.flag();
  return in.ok();
}

}  // namespace node_mesh
