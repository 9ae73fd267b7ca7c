#include "devices/pic/pic.h"

namespace node_mesh {
namespace {

constexpr unsigned cascade_input = 2;

constexpr std::uint8_t bit(unsigned index) { return static_cast<std::uint8_t>(1u << index); }

}  // namespace

int Pic::Chip::rank_first(std::uint8_t bits) const {
  for (unsigned rank = 0; rank < 8; ++rank) {
    const unsigned input = (lowest + 1u + rank) & 7u;
    if ((bits & bit(input)) != 0) return static_cast<int>(rank);
  }
  return -1;
}

int Pic::Chip::winner() const {
  const int request = rank_first(static_cast<std::uint8_t>(irr & ~imr));
  if (request < 0) return -1;
  std::uint8_t blocking = isr;
  if (special_mask) blocking &= static_cast<std::uint8_t>(~imr);
  // In the special fully nested mode a slave in service does not block its own later requests.
  if (master && fully_nested_special) blocking &= static_cast<std::uint8_t>(~bit(cascade_input));
  const int served = rank_first(blocking);
  if (served >= 0 && served <= request) return -1;
  return static_cast<int>((lowest + 1u + static_cast<unsigned>(request)) & 7u);
}

void Pic::Chip::set_line(unsigned input, bool asserted) {
  const std::uint8_t mask = bit(input);
  const bool was = (lines & mask) != 0;
  if (asserted) {
    lines |= mask;
    if (!was || (level_triggered() & mask) != 0) irr |= mask;
  } else {
    lines &= static_cast<std::uint8_t>(~mask);
    irr &= static_cast<std::uint8_t>(~mask);
  }
}

void Pic::Chip::accept(unsigned input) {
  const std::uint8_t mask = bit(input);
  if ((level_triggered() & mask) == 0) irr &= static_cast<std::uint8_t>(~mask);
  if (!auto_eoi) {
    isr |= mask;
  } else if (rotate_on_auto_eoi) {
    lowest = static_cast<std::uint8_t>(input);
  }
}

void Pic::Chip::write_command(std::uint8_t value) {
  if ((value & 0x10) != 0) {  // ICW1
    needs_icw4 = (value & 0x01) != 0;
    single = (value & 0x02) != 0;
    level_all = (value & 0x08) != 0;
    imr = isr = 0;
    irr = static_cast<std::uint8_t>(lines & level_triggered());
    lowest = 7;
    auto_eoi = rotate_on_auto_eoi = fully_nested_special = special_mask = read_isr = poll = false;
    expect = Expect::icw2;
    return;
  }
  if ((value & 0x08) != 0) {  // OCW3
    poll = (value & 0x04) != 0;
    if ((value & 0x02) != 0) read_isr = (value & 0x01) != 0;
    if ((value & 0x40) != 0) special_mask = (value & 0x20) != 0;
    return;
  }
  end_of_interrupt(value);
}

void Pic::Chip::end_of_interrupt(std::uint8_t ocw2) {
  const bool rotate = (ocw2 & 0x80) != 0;
  const bool specific = (ocw2 & 0x40) != 0;
  const bool eoi = (ocw2 & 0x20) != 0;
  unsigned input = ocw2 & 7u;
  if (!eoi) {
    if (specific && rotate) lowest = static_cast<std::uint8_t>(input);  // set priority
    if (!specific) rotate_on_auto_eoi = rotate;
    return;
  }
  if (!specific) {
    std::uint8_t candidates = isr;
    if (special_mask) candidates &= static_cast<std::uint8_t>(~imr);
    const int rank = rank_first(candidates);
    if (rank < 0) return;
    input = (lowest + 1u + static_cast<unsigned>(rank)) & 7u;
  }
  isr &= static_cast<std::uint8_t>(~bit(input));
  if (rotate) lowest = static_cast<std::uint8_t>(input);
}

void Pic::Chip::write_data(std::uint8_t value) {
  switch (expect) {
    case Expect::mask:
      imr = value;
      return;
    case Expect::icw2:
      vector = value & 0xf8;
      expect = !single ? Expect::icw3 : needs_icw4 ? Expect::icw4 : Expect::mask;
      return;
    case Expect::icw3:  // the cascade is wired; what the guest says about it changes nothing
      expect = needs_icw4 ? Expect::icw4 : Expect::mask;
      return;
    case Expect::icw4:
      auto_eoi = (value & 0x02) != 0;
      fully_nested_special = (value & 0x10) != 0;
      expect = Expect::mask;
      return;
  }
}

void Pic::update_cascade() {
  const bool pending = chips_[1].winner() >= 0;
  if (pending != ((chips_[0].lines & bit(cascade_input)) != 0)) {
    chips_[0].set_line(cascade_input, pending);
  }
}

void Pic::set_irq(unsigned irq, bool asserted) {
  if (irq >= 16 || irq == cascade_input) return;
  chips_[irq / 8].set_line(irq & 7u, asserted);
  update_cascade();
}

std::uint8_t Pic::acknowledge() {
  Chip& master = chips_[0];
  const int input = master.winner();
  if (input < 0) return static_cast<std::uint8_t>(master.vector + 7);
  master.accept(static_cast<unsigned>(input));
  if (static_cast<unsigned>(input) != cascade_input) {
    return static_cast<std::uint8_t>(master.vector + input);
  }
  Chip& slave = chips_[1];
  const int slave_input = slave.winner();
  std::uint8_t vector = static_cast<std::uint8_t>(slave.vector + 7);
  if (slave_input >= 0) {
    slave.accept(static_cast<unsigned>(slave_input));
    vector = static_cast<std::uint8_t>(slave.vector + slave_input);
  }
  // Withdrawn, and asserted again if more waits: the master sees an edge for each request.
  master.set_line(cascade_input, false);
  update_cascade();
  return vector;
}

std::uint8_t Pic::read_chip(unsigned index, bool data_port) {
  Chip& chip = chips_[index];
  if (chip.poll) {
    chip.poll = false;
    const int input = chip.winner();
    if (input < 0) return 0;
    chip.accept(static_cast<unsigned>(input));
    update_cascade();
    return static_cast<std::uint8_t>(0x80 | input);
  }
  if (data_port) return chip.imr;
  return chip.read_isr ? chip.isr : chip.irr;
}

std::uint32_t Pic::read(std::uint16_t port, unsigned, std::uint64_t) {
  if (port == elcr_port || port == elcr_port + 1) return chips_[port & 1u].elcr;
  return read_chip(port >= slave_port ? 1 : 0, (port & 1u) != 0);
}

void Pic::write(std::uint16_t port, unsigned, std::uint32_t value, std::uint64_t) {
  const auto byte = static_cast<std::uint8_t>(value);
  if (port == elcr_port || port == elcr_port + 1) {
    // IRQ 0, 1, 2, 8 and 13 are edge-triggered by their wiring.
    chips_[port & 1u].elcr = byte & (port == elcr_port ? 0xf8 : 0xde);
    return;
  }
  Chip& chip = chips_[port >= slave_port ? 1 : 0];
  if ((port & 1u) != 0) {
    chip.write_data(byte);
  } else {
    chip.write_command(byte);
  }
  update_cascade();
}

void Pic::Chip::save(StateWriter& out) const {
  for (const std::uint8_t value : {irr, isr, imr, lines, elcr, vector, lowest})
    out.u8(value);
  out.u8(static_cast<std::uint8_t>(expect));
  for (const bool value : {needs_icw4, single, level_all, auto_eoi, rotate_on_auto_eoi,
                           fully_nested_special, special_mask, read_isr, poll}) {
    out.flag(value);
  }
}

void Pic::Chip::load(StateReader& in) {
  for (std::uint8_t* value : {&irr, &isr, &imr, &lines, &elcr, &vector, &lowest})
    *value = in.u8();
  in.require(lowest <= 7);
  const std::uint8_t expected = in.u8();
  in.require(expected <= static_cast<std::uint8_t>(Expect::icw4));
  expect = static_cast<Expect>(expected & 3u);
  for (bool* value : {&needs_icw4, &single, &level_all, &auto_eoi, &rotate_on_auto_eoi,
                      &fully_nested_special, &special_mask, &read_isr, &poll}) {
    *value = in.flag();
  }
}

void Pic::save(StateWriter& out) const {
  for (const Chip& chip : chips_)
    chip.save(out);
}

bool Pic::load(StateReader& in) {
  for (Chip& chip : chips_)
    chip.load(in);
  return in.ok();
}

}  // namespace node_mesh
