// The two cascaded 8259A interrupt controllers of the PC, with the ELCR edge/level registers.
//
// One deviation from the data sheet, on purpose: an edge whose line falls again before the
// acknowledge cycle is forgotten at once, where real parts would answer with a spurious IRQ 7.
#pragma once

#include <array>
#include <cstdint>

#include "devices/device.h"

namespace node_mesh {

class Pic final : public PortDevice {
 public:
  static constexpr std::uint16_t master_port = 0x20;  // 2 ports
  static constexpr std::uint16_t slave_port = 0xa0;   // 2 ports
  static constexpr std::uint16_t elcr_port = 0x4d0;   // 2 ports

  std::string_view name() const override { return "pic"; }
  std::uint32_t read(std::uint16_t port, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint16_t port, unsigned size, std::uint32_t value, std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

  void set_irq(unsigned irq, bool asserted);
  // The INTR output.
  bool interrupt_pending() const { return chips_[0].winner() >= 0; }
  // The acknowledge cycle: the vector, spurious (IRQ 7) when nothing is pending any more.
  std::uint8_t acknowledge();

 private:
  // Which initialisation word the next write to the data port is.
  enum class Expect : std::uint8_t { mask, icw2, icw3, icw4 };

  struct Chip {
    std::uint8_t irr = 0;     // requests: latched edges, or the level of level-triggered lines
    std::uint8_t isr = 0;     // in service
    std::uint8_t imr = 0;     // masked
    std::uint8_t lines = 0;   // the input pins
    std::uint8_t elcr = 0;    // level-triggered inputs
    std::uint8_t vector = 0;  // ICW2
    std::uint8_t lowest = 7;  // the input of lowest priority; the one behind it is the highest
    Expect expect = Expect::mask;
    bool master = false;
    bool needs_icw4 = false;
    bool single = false;
    bool level_all = false;  // ICW1.LTIM
    bool auto_eoi = false;
    bool rotate_on_auto_eoi = false;
    bool fully_nested_special = false;
    bool special_mask = false;
    bool read_isr = false;
    bool poll = false;

    int winner() const;  // the input to serve next, -1 if none
    int rank_first(std::uint8_t bits) const;
    void set_line(unsigned input, bool asserted);
    void accept(unsigned input);
    void write_command(std::uint8_t value);
    void write_data(std::uint8_t value);
    void end_of_interrupt(std::uint8_t ocw2);
    std::uint8_t level_triggered() const { return level_all ? 0xff : elcr; }
    void save(StateWriter& out) const;
    void load(StateReader& in);
  };

  std::uint8_t read_chip(unsigned index, bool data_port);
  void update_cascade();

  std::array<Chip, 2> chips_{Chip{.master = true}, Chip{}};
};

}  // namespace node_mesh
