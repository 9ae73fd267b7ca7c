// The PCI transport of virtio 1 ("modern"): one function with one memory window that holds the
// common configuration, the doorbells, the interrupt status, the device's configuration and the
// MSI-X table. It speaks the driver's protocol for a VirtioDevice and owns its queues.
//
// A doorbell does nothing by itself: it makes the transport due at once, so that the machine stops
// behind that instruction and requests are served between two instructions.
#pragma once

#include <array>
#include <vector>

#include "devices/pci_host/pci_function.h"
#include "devices/virtio/virtio_device.h"

namespace node_mesh {

class VirtioPci final : public PciFunction, public VirtioPort {
 public:
  static constexpr std::uint32_t window_bytes = 0x8000;
  static constexpr unsigned queues_max = 16;

  // `slot` gives its address on the bus, its interrupt pin, and where firmware put its window.
  VirtioPci(VirtioDevice& device, unsigned slot, GuestDma& dma, PciInterrupts& interrupts);
  VirtioPci(const VirtioPci&) = delete;
  VirtioPci& operator=(const VirtioPci&) = delete;

  unsigned slot() const { return slot_; }
  bool interrupt_pin() const { return pin_asserted_; }
  std::string_view name() const override { return device_.name(); }
  std::uint64_t deadline_ns() const override;
  void advance(std::uint64_t now_ns) override;
  void save(StateWriter& out) const override;
  bool load(StateReader& in) override;

  std::uint64_t read(std::uint64_t offset, unsigned size, std::uint64_t now_ns) override;
  void write(std::uint64_t offset, unsigned size, std::uint64_t value,
             std::uint64_t now_ns) override;
  std::uint32_t config_read(unsigned offset, std::uint64_t now_ns) override;
  void config_write(unsigned offset, unsigned size, std::uint32_t value,
                    std::uint64_t now_ns) override;
  Window window() const override;

  // VirtioPort
  VirtQueue& queue(unsigned index) override { return queues_[index].ring; }
  GuestDma& dma() override { return dma_; }
  bool driver_ready() const override;
  std::uint64_t driver_features() const override { return driver_features_; }
  void publish() override;
  void config_changed() override;

 private:
  static constexpr unsigned config_bytes = 256;
  static constexpr std::uint16_t no_vector = 0xffff;
  struct Queue {
    VirtQueue ring;
    std::uint16_t vector = no_vector;
    bool notified = false;
  };
  struct Message {
    std::uint32_t address_low = 0, address_high = 0, data = 0;
    bool masked = true, pending = false;
  };

  void build_config_space();
  void add_capabilities();
  void put_config(unsigned offset, unsigned size, std::uint32_t value);
  std::uint32_t get_config(unsigned offset, unsigned size) const;
  std::uint16_t command() const { return static_cast<std::uint16_t>(get_config(0x04, 2)); }
  bool messages_enabled() const;
  bool messages_masked() const;

  std::uint64_t read_common(unsigned offset, unsigned size) const;
  void write_common(unsigned offset, unsigned size, std::uint64_t value);
  void write_queue_register(Queue& queue, unsigned offset, unsigned size, std::uint64_t value);
  std::uint64_t read_device_config(unsigned offset, unsigned size) const;
  std::uint32_t read_message(unsigned offset) const;
  std::uint32_t read_pending(unsigned offset) const;
  void write_message(unsigned offset, std::uint32_t value);
  // The access that the driver set up in the capability for access by configuration space.
  struct WindowAccess {
    std::uint32_t offset = 0, size = 0;  // no size: it makes no sense
  };
  WindowAccess window_access() const;
  void write_status(std::uint8_t value);
  void reset_device();
  std::uint64_t offered_features() const;
  Queue* selected() { return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr; }
  const Queue* selected() const {
    return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
  }

  void interrupt(std::uint16_t vector, std::uint8_t status_bit);
  void send_pending();
  void update_pin();
  void note_broken_queues();

  VirtioDevice& device_;
  const unsigned slot_;
  GuestDma& dma_;
  PciInterrupts& interrupts_;
  std::array<std::uint8_t, config_bytes> config_space_{};
  std::array<std::uint8_t, config_bytes> config_writable_{};
  unsigned messages_at_ = 0;  // offsets of capabilities in configuration space
  unsigned window_capability_ = 0;
  std::vector<Message> messages_;  // one for each queue and one for the configuration
  std::vector<Queue> queues_;
  std::uint32_t device_feature_select_ = 0, driver_feature_select_ = 0;
  std::uint64_t driver_features_ = 0;
  std::uint16_t config_vector_ = no_vector;
  std::uint16_t queue_select_ = 0;
  std::uint8_t status_ = 0;
  std::uint8_t config_generation_ = 0;
  std::uint8_t interrupt_status_ = 0;
  bool pin_asserted_ = false;
  std::uint64_t notified_ns_ = no_deadline;
};

}  // namespace node_mesh
