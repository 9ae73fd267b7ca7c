// What a device class is behind the virtio transport: its queues, features and configuration, and
// what it does with requests. The transport deals with the driver's protocol and with interrupts; a
// device never sees a request while the driver has not said that it is ready, nor from a broken
// queue.
//
// All calls happen between two instructions, at a position. A device completes a request at once,
// or at a virtual time that it computes from the request and gives as its deadline.
#pragma once

#include <string_view>

#include "devices/device.h"
#include "devices/virtio/virtqueue.h"

namespace node_mesh {

enum class VirtioType : std::uint16_t { network = 1, block = 2, console = 3, entropy = 4 };

// The transport, as a device sees it. Interrupts need no call: behind each call of a device the
// transport looks at what its queues were given.
class VirtioPort {
 public:
  virtual ~VirtioPort() = default;
  virtual VirtQueue& queue(unsigned index) = 0;
  virtual GuestDma& dma() = 0;
  // DRIVER_OK is set and nothing is broken: requests may be taken.
  virtual bool driver_ready() const = 0;
  virtual std::uint64_t driver_features() const = 0;
  // For what happens to a device outside the transport's calls (input from the machine): sends the
  // interrupts for what the queues were given.
  virtual void publish() = 0;
  // The device's configuration changed: a configuration interrupt.
  virtual void config_changed() = 0;
};

class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;
  // Unique in a machine, [a-z0-9_]: the name of the transport's state in digests.
  virtual std::string_view name() const = 0;
  virtual VirtioType type() const = 0;
  virtual std::uint32_t pci_class() const = 0;  // class, subclass, interface: 0x0cssii
  virtual unsigned queue_count() const = 0;
  virtual std::uint16_t queue_size_max(unsigned) const { return virtqueue_size_max; }
  // Of the device class (bits 0..23); the transport adds its own.
  virtual std::uint64_t features() const { return 0; }

  void attach(VirtioPort& port) { port_ = &port; }
  // The driver is ready (DRIVER_OK).
  virtual void activate() {}
  // The driver reset the device: it forgets what it was doing.
  virtual void reset() {}
  // The driver put something into a queue. Called behind the instruction that rang the doorbell.
  virtual void notified(unsigned queue, std::uint64_t now_ns) = 0;

  // As in Device: called exactly when virtual time reaches the deadline.
  virtual std::uint64_t deadline_ns() const { return no_deadline; }
  virtual void advance(std::uint64_t now_ns) { static_cast<void>(now_ns); }

  // The device-specific configuration; bytes beyond it read as zero.
  virtual std::span<const std::byte> config() const { return {}; }
  virtual void config_write(unsigned offset, std::byte value) {
    static_cast<void>(offset);
    static_cast<void>(value);
  }

  // The device's own state; the transport's and the queues' are saved by the transport.
  virtual void save(StateWriter& out) const { static_cast<void>(out); }
  virtual bool load(StateReader& in) { return in.ok(); }

 protected:
  VirtioPort& port() const { return *port_; }

 private:
  VirtioPort* port_ = nullptr;
};

}  // namespace node_mesh
