#include "devices/pit/pit.h"

namespace node_mesh {
namespace {

using Wide = unsigned __int128;

std::uint64_t tick_at(std::uint64_t ns) {
  return static_cast<std::uint64_t>(Wide{ns} * Pit::frequency_hz / ns_per_second);
}

// The first nanosecond at which tick_at() gives `tick`.
std::uint64_t ns_at(std::uint64_t tick) {
  const Wide ns = (Wide{tick} * ns_per_second + Pit::frequency_hz - 1) / Pit::frequency_hz;
  return ns > UINT64_MAX ? no_deadline : static_cast<std::uint64_t>(ns);
}

std::uint16_t to_bcd(std::uint32_t value) {
  return static_cast<std::uint16_t>((value / 1000 % 10) << 12 | (value / 100 % 10) << 8 |
                                    (value / 10 % 10) << 4 | value % 10);
}

std::uint32_t from_bcd(std::uint16_t value) {
  return (value >> 12) * 1000u + ((value >> 8) & 15u) * 100u + ((value >> 4) & 15u) * 10u +
         (value & 15u);
}

// Port 61h bit 4 toggles with each DRAM refresh of old, about every 15 us.
constexpr std::uint64_t refresh_ns = 15085;

}  // namespace

std::uint64_t Pit::Channel::elapsed(std::uint64_t tick) const {
  return armed ? tick - start_tick : frozen_ticks;
}

// Ticks from the load to the rising edge of a one-shot mode, or to that of each period.
std::uint64_t Pit::Channel::expiry_ticks() const { return mode >= 4 ? count + 1ull : count; }

std::uint16_t Pit::Channel::value(std::uint64_t tick) const {
  const std::uint64_t passed = elapsed(tick);
  const std::uint32_t modulus = bcd ? 10000 : 0x10000;
  std::uint64_t now = 0;
  if (mode == 3) {  // counts by two, twice a period
    const std::uint64_t even = count & ~1ull;
    now = even == 0 ? count : even - (2 * (passed % count)) % even;
  } else if (mode == 2) {
    now = count - passed % count;
  } else {  // goes on counting below zero
    now = (count + modulus - passed % modulus) % modulus;
  }
  now %= modulus;
  return bcd ? to_bcd(static_cast<std::uint32_t>(now)) : static_cast<std::uint16_t>(now);
}

bool Pit::Channel::output(std::uint64_t tick) const {
  if (!loaded) return mode != 0;
  const std::uint64_t passed = elapsed(tick);
  switch (mode) {
    case 0:
      return passed >= count;
    case 1:
      return !armed || passed >= count;
    case 2:
      return !gate || passed % count != count - 1;
    case 3:
      return !gate || passed % count < (count + 1) / 2;
    default:
      return passed != count;
  }
}

void Pit::Channel::set_control(std::uint8_t word) {
  access = static_cast<Access>((word >> 4) & 3u);
  mode = (word >> 1) & 7u;
  if (mode > 5) mode &= 3u;  // 6 and 7 are 2 and 3
  bcd = (word & 1u) != 0;
  loaded = armed = write_high_next = read_high_next = count_latched = status_latched = false;
  frozen_ticks = 0;
}

void Pit::Channel::load_count(std::uint16_t written, std::uint64_t tick) {
  count = bcd ? from_bcd(written) : written;
  if (count == 0) count = bcd ? 10000 : 0x10000;
  loaded = true;
  if (mode == 1 || mode == 5) return;  // started by the gate
  armed = gate;
  start_tick = tick;
  frozen_ticks = 0;
}

void Pit::Channel::write_byte(std::uint8_t byte, std::uint64_t tick) {
  switch (access) {
    case Access::low:
      load_count(byte, tick);
      return;
    case Access::high:
      load_count(static_cast<std::uint16_t>(byte << 8), tick);
      return;
    case Access::both:
      break;
  }
  if (write_high_next) {
    load_count(static_cast<std::uint16_t>(low_byte | byte << 8), tick);
  } else {
    low_byte = byte;
    if (mode == 0) armed = false;  // the first byte stops the count
  }
  write_high_next = !write_high_next;
}

std::uint8_t Pit::Channel::read_byte(std::uint64_t tick) {
  if (status_latched) {
    status_latched = false;
    return latched_status;
  }
  const std::uint16_t now = count_latched ? latched_count : value(tick);
  const bool high = access == Access::high || (access == Access::both && read_high_next);
  if (access == Access::both) read_high_next = !read_high_next;
  if (access != Access::both || high) count_latched = false;
  return static_cast<std::uint8_t>(high ? now >> 8 : now);
}

void Pit::Channel::latch_count(std::uint64_t tick) {
  if (count_latched) return;
  count_latched = true;
  latched_count = value(tick);
}

void Pit::Channel::latch_status(std::uint64_t tick) {
  if (status_latched) return;
  status_latched = true;
  latched_status = static_cast<std::uint8_t>((output(tick) ? 0x80 : 0) | (loaded ? 0 : 0x40) |
                                             static_cast<unsigned>(access) << 4 |
                                             static_cast<unsigned>(mode) << 1 | (bcd ? 1 : 0));
}

void Pit::Channel::set_gate(bool level, std::uint64_t tick) {
  if (level == gate) return;
  gate = level;
  if (!loaded) return;
  if (mode == 1 || mode == 5) {
    if (level) {  // (re)triggered by the rising edge
      armed = true;
      start_tick = tick;
    }
    return;
  }
  if (!level) {
    frozen_ticks = elapsed(tick);
    armed = false;
  } else {
    armed = true;
    start_tick = one_shot() ? tick - frozen_ticks : tick;
    frozen_ticks = 0;
  }
}

void Pit::write_control(std::uint8_t word, std::uint64_t tick) {
  const unsigned select = word >> 6;
  if (select == 3) {  // read back
    for (unsigned i = 0; i < 3; ++i) {
      if ((word & (2u << i)) == 0) continue;
      if ((word & 0x20) == 0) channels_[i].latch_count(tick);
      if ((word & 0x10) == 0) channels_[i].latch_status(tick);
    }
    return;
  }
  Channel& channel = channels_[select];
  if ((word & 0x30) == 0) {
    channel.latch_count(tick);
    return;
  }
  channel.set_control(word);
  if (select == 0) {
    edges_told_ = 0;
    lines_.set_irq(irq, false);
  }
}

std::uint32_t Pit::read(std::uint16_t port, unsigned, std::uint64_t now_ns) {
  const std::uint64_t tick = tick_at(now_ns);
  if (port == control_port) {
    return static_cast<std::uint32_t>(speaker_ | (now_ns / refresh_ns % 2 << 4) |
                                      (channels_[2].output(tick) ? 0x20u : 0u));
  }
  const unsigned index = port & 3u;
  return index == 3 ? 0xff : channels_[index].read_byte(tick);
}

void Pit::write(std::uint16_t port, unsigned, std::uint32_t value, std::uint64_t now_ns) {
  const std::uint64_t tick = tick_at(now_ns);
  const auto byte = static_cast<std::uint8_t>(value);
  if (port == control_port) {
    speaker_ = byte & 0x03;
    channels_[2].set_gate((byte & 0x01) != 0, tick);
    return;
  }
  const unsigned index = port & 3u;
  if (index == 3) {
    write_control(byte, tick);
    return;
  }
  channels_[index].write_byte(byte, tick);
  if (index == 0) {
    edges_told_ = 0;
    if (channels_[0].mode == 0) lines_.set_irq(irq, false);
  }
}

std::uint64_t Pit::deadline_ns() const {
  const Channel& channel = channels_[0];
  if (!channel.loaded || !channel.armed) return no_deadline;
  if (channel.one_shot() && edges_told_ != 0) return no_deadline;
  return ns_at(channel.start_tick + (edges_told_ + 1) * channel.expiry_ticks());
}

void Pit::advance(std::uint64_t now_ns) {
  if (now_ns < deadline_ns()) return;
  const Channel& channel = channels_[0];
  // Edges that passed while virtual time jumped are one: the line can be high only once.
  edges_told_ = channel.one_shot() ? 1 : channel.elapsed(tick_at(now_ns)) / channel.expiry_ticks();
  lines_.set_irq(irq, false);
  lines_.set_irq(irq, true);
}

void Pit::Channel::save(StateWriter& out) const {
  out.u8(mode);
  out.u8(static_cast<std::uint8_t>(access));
  for (const bool value_ :
       {bcd, loaded, gate, armed, write_high_next, read_high_next, count_latched, status_latched}) {
    out.flag(value_);
  }
  out.u32(count);
  out.u64(start_tick);
  out.u64(frozen_ticks);
  out.u8(low_byte);
  out.u16(latched_count);
  out.u8(latched_status);
}

void Pit::Channel::load(StateReader& in) {
  mode = in.u8();
  in.require(mode <= 5);
  const std::uint8_t transfer = in.u8();
  in.require(transfer >= 1 && transfer <= 3);
  access = static_cast<Access>(transfer & 3u);
  for (bool* value_ : {&bcd, &loaded, &gate, &armed, &write_high_next, &read_high_next,
                       &count_latched, &status_latched}) {
    *value_ = in.flag();
  }
  count = in.u32();
  in.require(count >= 1 && count <= 0x10000);
  start_tick = in.u64();
  frozen_ticks = in.u64();
  low_byte = in.u8();
  latched_count = in.u16();
  latched_status = in.u8();
}

void Pit::save(StateWriter& out) const {
  for (const Channel& channel : channels_)
    channel.save(out);
  out.u8(speaker_);
  out.u64(edges_told_);
}

bool Pit::load(StateReader& in) {
  for (Channel& channel : channels_)
    channel.load(in);
  speaker_ = in.u8();
  edges_told_ = in.u64();
  return in.ok();
}

}  // namespace node_mesh
