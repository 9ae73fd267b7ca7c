// A split virtqueue, as the device sees it. The rings and descriptors lie in guest memory and are
// hostile: each value is read once, every address is checked before use, chains are bounded by the
// queue's size. What is wrong breaks the queue for good (until the driver resets the device); it
// then gives and takes nothing.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "devices/state.h"
#include "devices/virtio/guest_dma.h"

namespace node_mesh {

inline constexpr std::uint16_t virtqueue_size_max = 256;
// Descriptors of one chain, an indirect table's included; beyond: the queue is broken.
inline constexpr unsigned chain_descriptors_max = 1024;
// Bytes of one chain's readable, and of its writable part; beyond: the queue is broken.
inline constexpr std::uint64_t chain_bytes_max = 64ull << 20;

// One request: the parts that the device reads, then the parts that it writes. All of them were
// inside RAM when the chain was taken, and RAM does not move, so copies cannot fail.
class DescriptorChain {
 public:
  struct Segment {
    std::uint64_t gpa = 0;
    std::uint32_t bytes = 0;
  };
  std::uint16_t head() const { return head_; }
  std::uint64_t readable_bytes() const { return readable_bytes_; }
  std::uint64_t writable_bytes() const { return writable_bytes_; }
  const std::vector<Segment>& readable() const { return readable_; }
  const std::vector<Segment>& writable() const { return writable_; }
  // Copies from the readable part, `offset` bytes into it. Returns how many there were.
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const;
  // Copies to the writable part, `offset` bytes into it. Returns how many fitted.
  std::size_t write(std::uint64_t offset, std::span<const std::byte> from);

 private:
  friend class VirtQueue;
  GuestDma* dma_ = nullptr;
  std::uint16_t head_ = 0;
  std::uint64_t readable_bytes_ = 0, writable_bytes_ = 0;
  std::vector<Segment> readable_, writable_;
};

class VirtQueue {
 public:
  VirtQueue(GuestDma& dma, std::uint16_t size_max) : dma_(dma), size_max_(size_max) { reset(); }

  // The next request of the driver, in `chain`, whose storage is used again. False: there is none
  // now; the driver will ring the doorbell for the next one.
  bool take(DescriptorChain& chain);
  // The last so many chains that take() gave were not taken: for a device that cannot serve them
  // yet. None of them may have been put.
  void put_back(unsigned chains);
  // The request is done and `written` bytes of its writable part were filled, from the first.
  void put_used(const DescriptorChain& chain, std::uint32_t written);
  // Are there so many chains to take? If not, the driver will ring the doorbell for the next one.
  bool has_chains(unsigned count);

  bool ready() const { return enabled_ && !broken_; }
  bool broken() const { return broken_; }
  void break_it() { broken_ = true; }

  // The transport's side. One service is what a device does at one position: the driver cannot add
  // to its ring meanwhile, so a ring that gives more chains than it has places is broken.
  void begin_service() { taken_ = 0; }
  void reset();
  void set_event_index(bool on) { event_index_ = on; }
  void enable();  // checks where the driver put its rings
  // Whether an interrupt is wanted for what was put since this was asked last.
  bool take_interrupt_wanted();
  void save(StateWriter& out) const;
  bool load(StateReader& in);

  std::uint16_t size_max() const { return size_max_; }
  std::uint16_t size() const { return size_; }
  void set_size(std::uint16_t size);
  bool enabled() const { return enabled_; }
  std::uint64_t descriptors = 0, available = 0, used = 0;  // guest-physical, set by the driver

 private:
  struct Descriptor {
    std::uint64_t gpa = 0;
    std::uint32_t bytes = 0;
    std::uint16_t flags = 0, next = 0;
  };
  Descriptor read_descriptor(std::uint64_t table, std::uint32_t index);
  bool read_chain(DescriptorChain& chain, std::uint64_t table, std::uint32_t table_size,
                  std::uint32_t first, bool indirect);
  bool add_segment(DescriptorChain& chain, const Descriptor& descriptor);
  bool rings_in_memory() const;
  bool fail() {
    broken_ = true;
    return false;
  }
  std::uint16_t read_u16(std::uint64_t gpa);
  void write_u16(std::uint64_t gpa, std::uint16_t value);
  std::uint64_t used_event_gpa() const { return available + 4 + 2ull * size_; }
  std::uint64_t available_event_gpa() const { return used + 4 + 8ull * size_; }

  GuestDma& dma_;
  std::uint16_t size_max_;
  std::uint16_t size_ = 0;
  std::uint16_t next_available_ = 0;  // how many chains were taken, mod 2^16
  std::uint16_t next_used_ = 0;       // how many were put, mod 2^16
  std::uint16_t told_used_ = 0;       // next_used_ when an interrupt was last considered
  unsigned taken_ = 0;                // in this service
  bool enabled_ = false;
  bool broken_ = false;
  bool event_index_ = false;
};

}  // namespace node_mesh
