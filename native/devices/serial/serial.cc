#include "devices/serial/serial.h"

#include <algorithm>

namespace node_mesh {
namespace {

enum Register : unsigned {
  data,
  interrupt_enable,
  interrupt_identify,
  line_control,
  modem_control,
  line_state,
  modem_state,
  scratch
};

constexpr std::uint8_t enable_received = 0x01, enable_transmit_empty = 0x02, enable_line = 0x04,
                       enable_modem = 0x08;
constexpr std::uint8_t line_data_ready = 0x01, line_overrun = 0x02, line_transmit_empty = 0x60;
constexpr std::uint8_t modem_rts = 0x02;
constexpr std::uint8_t id_none = 0x01, id_modem = 0x00, id_transmit_empty = 0x02,
                       id_received = 0x04, id_line = 0x06, id_timeout = 0x0c;
// Whatever speed the guest sets: there is no wire, and Linux takes 9600 when it is not told
// another.
constexpr std::uint64_t line_baud = 115200;

}  // namespace

std::size_t Serial::trigger_level() const {
  constexpr std::array<std::uint8_t, 4> levels{1, 4, 8, 14};
  return fifo_enabled() ? levels[fcr_ >> 6] : 1;
}

std::uint64_t Serial::character_ns() const {
  const unsigned bits =
      1 + 5 + (lcr_ & 3u) + ((lcr_ & 0x08u) != 0 ? 1 : 0) + ((lcr_ & 0x04u) != 0 ? 2 : 1);
  return bits * ns_per_second / line_baud;
}

std::uint8_t Serial::line_status() const {
  return static_cast<std::uint8_t>(line_transmit_empty | (fifo_count_ > 0 ? line_data_ready : 0) |
                                   (overrun_ ? line_overrun : 0));
}

std::uint8_t Serial::modem_status() const {
  if (!loopback()) return static_cast<std::uint8_t>(0xb0 | modem_deltas_);  // DCD, DSR, CTS
  // Looped back: RTS -> CTS, DTR -> DSR, OUT1 -> RI, OUT2 -> DCD.
  const unsigned looped = ((mcr_ & 0x02u) << 3) | ((mcr_ & 0x01u) << 5) | ((mcr_ & 0x0cu) << 4);
  return static_cast<std::uint8_t>(looped | modem_deltas_);
}

std::uint8_t Serial::interrupt_id() const {
  if ((ier_ & enable_line) != 0 && overrun_) return id_line;
  if ((ier_ & enable_received) != 0 && fifo_count_ > 0) {
    // What is below the trigger level has been there long enough: the line is idle behind it.
    return fifo_count_ >= trigger_level() ? id_received : id_timeout;
  }
  if ((ier_ & enable_transmit_empty) != 0 && transmit_pending_) return id_transmit_empty;
  if ((ier_ & enable_modem) != 0 && modem_deltas_ != 0) return id_modem;
  return id_none;
}

void Serial::update_irq() {
  const bool asserted = interrupt_id() != id_none;
  if (asserted == irq_asserted_) return;
  irq_asserted_ = asserted;
  lines_.set_irq(irq, asserted);
}

bool Serial::may_receive() const {
  return !queue_.empty() && fifo_count_ == 0 && !loopback() && (mcr_ & modem_rts) != 0;
}

void Serial::receive_from_line(std::uint64_t now_ns) {
  if (!may_receive() || now_ns < line_free_ns_) return;
  // One FIFO full at a time; its whole time on the line is waited for before the next.
  const std::size_t count = std::min(queue_.size(), fifo_limit());
  for (std::size_t i = 0; i < count; ++i) {
    push_received(queue_.front());
    queue_.pop_front();
  }
  line_free_ns_ = now_ns + count * character_ns();
}

void Serial::push_received(std::uint8_t value) {
  if (fifo_count_ == fifo_limit()) {
    overrun_ = true;
    return;
  }
  fifo_[fifo_count_++] = value;
}

std::uint64_t Serial::deadline_ns() const { return may_receive() ? line_free_ns_ : no_deadline; }

void Serial::advance(std::uint64_t now_ns) {
  receive_from_line(now_ns);
  update_irq();
}

std::size_t Serial::input(std::span<const std::byte> bytes, std::uint64_t now_ns) {
  const std::size_t taken = std::min(bytes.size(), input_bytes_max - queue_.size());
  for (const std::byte value : bytes.first(taken)) {
    queue_.push_back(std::to_integer<std::uint8_t>(value));
  }
  advance(now_ns);
  return taken;
}

std::uint8_t Serial::read_register(unsigned index, std::uint64_t now_ns) {
  switch (index) {
    case data: {
      if (divisor_latch()) return static_cast<std::uint8_t>(divisor_);
      if (fifo_count_ == 0) return 0;
      const std::uint8_t value = fifo_[0];
      std::copy(fifo_.begin() + 1, fifo_.begin() + fifo_count_, fifo_.begin());
      --fifo_count_;
      fifo_[fifo_count_] = 0;
      receive_from_line(now_ns);
      return value;
    }
    case interrupt_enable:
      return divisor_latch() ? static_cast<std::uint8_t>(divisor_ >> 8) : ier_;
    case interrupt_identify: {
      const std::uint8_t id = interrupt_id();
      if (id == id_transmit_empty) transmit_pending_ = false;
      return static_cast<std::uint8_t>(id | (fifo_enabled() ? 0xc0 : 0));
    }
    case line_control:
      return lcr_;
    case modem_control:
      return mcr_;
    case line_state: {
      const std::uint8_t value = line_status();
      overrun_ = false;
      return value;
    }
    case modem_state: {
      const std::uint8_t value = modem_status();
      modem_deltas_ = 0;
      return value;
    }
    default:
      return scratch_;
  }
}

std::uint32_t Serial::read(std::uint16_t port, unsigned, std::uint64_t now_ns) {
  const std::uint8_t value = read_register(port & 7u, now_ns);
  update_irq();
  return value;
}

void Serial::transmit(std::uint8_t value) {
  if (loopback()) {
    push_received(value);
  } else {
    ++output_bytes_;
    output_.serial_output(static_cast<std::byte>(value));
  }
  transmit_pending_ = true;
}

void Serial::write_fifo_control(std::uint8_t value) {
  const bool toggled = ((value ^ fcr_) & 0x01) != 0;
  fcr_ = value & 0xc9;
  if (toggled || (value & 0x02) != 0) {
    fifo_.fill(0);
    fifo_count_ = 0;
  }
}

void Serial::write_modem_control(std::uint8_t value) {
  const std::uint8_t before = modem_status() & 0xf0;
  mcr_ = value & 0x1f;
  const unsigned after = modem_status() & 0xf0u;
  const unsigned changed = (before ^ after) >> 4;
  modem_deltas_ |= static_cast<std::uint8_t>(changed & 0x0bu);
  if ((before & 0x40) != 0 && (after & 0x40) == 0) modem_deltas_ |= 0x04;  // RI: falling only
}

void Serial::write_register(unsigned index, std::uint8_t value) {
  switch (index) {
    case data:
      if (divisor_latch()) {
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0xff00u) | value);
      } else {
        transmit(value);
      }
      return;
    case interrupt_enable:
      if (divisor_latch()) {
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00ffu) | (value << 8));
        return;
      }
      // The transmitter is always empty, so enabling its interrupt raises it: drivers rely on that.
      if ((value & ~ier_ & enable_transmit_empty) != 0) transmit_pending_ = true;
      ier_ = value & 0x0f;
      return;
    case interrupt_identify:
      write_fifo_control(value);
      return;
    case line_control:
      lcr_ = value;
      return;
    case modem_control:
      write_modem_control(value);
      return;
    case scratch:
      scratch_ = value;
      return;
    default:
      return;  // the status registers are read-only
  }
}

void Serial::write(std::uint16_t port, unsigned, std::uint32_t value, std::uint64_t now_ns) {
  write_register(port & 7u, static_cast<std::uint8_t>(value));
  receive_from_line(now_ns);
  update_irq();
}

void Serial::save(StateWriter& out) const {
  for (const std::uint8_t value : {ier_, fcr_, lcr_, mcr_, scratch_})
    out.u8(value);
  out.u16(divisor_);
  out.flag(overrun_);
  out.flag(transmit_pending_);
  out.u8(modem_deltas_);
  for (const std::uint8_t value : fifo_)
    out.u8(value);
  out.u8(fifo_count_);
  out.u64(line_free_ns_);
  out.u64(output_bytes_);
  out.flag(irq_asserted_);
  out.u32(static_cast<std::uint32_t>(queue_.size()));
  for (const std::uint8_t value : queue_)
    out.u8(value);
}

bool Serial::load(StateReader& in) {
  for (std::uint8_t* value : {&ier_, &fcr_, &lcr_, &mcr_, &scratch_})
    *value = in.u8();
  divisor_ = in.u16();
  overrun_ = in.flag();
  transmit_pending_ = in.flag();
  modem_deltas_ = in.u8();
  for (std::uint8_t& value : fifo_)
    value = in.u8();
  fifo_count_ = in.u8();
  in.require(fifo_count_ <= fifo_limit());
  line_free_ns_ = in.u64();
  output_bytes_ = in.u64();
  irq_asserted_ = in.flag();
  const std::uint32_t queued = in.u32();
  in.require(queued <= input_bytes_max);
  if (!in.ok()) return false;
  queue_.clear();
  for (const std::byte value : in.bytes(queued)) {
    queue_.push_back(std::to_integer<std::uint8_t>(value));
  }
  return in.ok();
}

}  // namespace node_mesh
