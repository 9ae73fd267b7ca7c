#include "devices/virtio/virtio_pci.h"

#include <algorithm>
#include <bit>

#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t common_at = 0x0000, status_at = 0x1000, device_config_at = 0x2000,
                        doorbells_at = 0x3000, messages_at = 0x4000, pending_at = 0x5000;
constexpr unsigned common_bytes = 56, doorbell_stride = 4, message_bytes = 16;

constexpr std::uint64_t feature_version_1 = 1ull << 32, feature_indirect = 1ull << 28,
                        feature_event_index = 1ull << 29;
constexpr std::uint64_t transport_features =
    feature_version_1 | feature_indirect | feature_event_index;

constexpr std::uint8_t status_driver_ok = 4, status_features_ok = 8, status_needs_reset = 0x40;
constexpr std::uint8_t interrupt_queue = 1, interrupt_config = 2;

constexpr std::uint16_t command_memory = 1u << 1, command_master = 1u << 2,
                        command_no_pin = 1u << 10;
constexpr std::uint16_t messages_enable = 1u << 15, messages_mask = 1u << 14;

std::uint64_t low_bytes(std::uint64_t value, unsigned size) {
  return size >= 8 ? value : value & ((std::uint64_t{1} << (8 * size)) - 1);
}

}  // namespace

VirtioPci::VirtioPci(VirtioDevice& device, unsigned slot, GuestDma& dma, PciInterrupts& interrupts)
    : device_(device), slot_(slot), dma_(dma), interrupts_(interrupts) {
  NM_CHECK(slot < pci_slots && device.queue_count() <= queues_max);
  NM_CHECK(device.config().size() <= doorbells_at - device_config_at);
  for (unsigned i = 0; i < device.queue_count(); ++i) {
    queues_.push_back({VirtQueue(dma, device.queue_size_max(i))});
  }
  messages_.resize(device.queue_count() + 1);
  build_config_space();
  device_.attach(*this);
}

bool VirtioPci::driver_ready() const {
  return (status_ & (status_driver_ok | status_needs_reset)) == status_driver_ok &&
         (command() & command_master) != 0;
}

std::uint64_t VirtioPci::offered_features() const {
  return device_.features() | transport_features;
}

// ---- Time

std::uint64_t VirtioPci::deadline_ns() const {
  return driver_ready() ? std::min(notified_ns_, device_.deadline_ns()) : notified_ns_;
}

void VirtioPci::advance(std::uint64_t now_ns) {
  if (notified_ns_ <= now_ns) {
    notified_ns_ = no_deadline;
    for (unsigned i = 0; i < queues_.size(); ++i) {
      if (!std::exchange(queues_[i].notified, false)) continue;
      if (driver_ready() && queues_[i].ring.ready()) device_.notified(i, now_ns);
    }
    publish();
  }
  if (driver_ready() && device_.deadline_ns() <= now_ns) {
    device_.advance(now_ns);
    publish();
  }
}

void VirtioPci::publish() {
  for (Queue& queue : queues_) {
    if (queue.ring.take_interrupt_wanted()) interrupt(queue.vector, interrupt_queue);
    queue.ring.begin_service();
  }
  note_broken_queues();
}

void VirtioPci::note_broken_queues() {
  if ((status_ & status_needs_reset) != 0) return;
  const auto is_broken = [](const Queue& queue) { return queue.ring.broken(); };
  if (std::ranges::none_of(queues_, is_broken)) return;
  status_ |= status_needs_reset;
  config_changed();
}

// ---- Interrupts

bool VirtioPci::messages_enabled() const {
  return (get_config(messages_at_ + 2, 2) & messages_enable) != 0;
}

bool VirtioPci::messages_masked() const {
  return (get_config(messages_at_ + 2, 2) & messages_mask) != 0;
}

void VirtioPci::config_changed() {
  ++config_generation_;
  interrupt(config_vector_, interrupt_config);
}

void VirtioPci::interrupt(std::uint16_t vector, std::uint8_t status_bit) {
  if (!messages_enabled()) {
    interrupt_status_ |= status_bit;
    update_pin();
  } else if (vector < messages_.size()) {
    messages_[vector].pending = true;
    send_pending();
  }
}

void VirtioPci::send_pending() {
  if (!messages_enabled() || messages_masked()) return;
  for (Message& message : messages_) {
    if (!message.pending || message.masked) continue;
    message.pending = false;
    interrupts_.send_message(std::uint64_t{message.address_high} << 32 | message.address_low,
                             message.data);
  }
}

void VirtioPci::update_pin() {
  const bool asserted =
      interrupt_status_ != 0 && !messages_enabled() && (command() & command_no_pin) == 0;
  if (asserted == pin_asserted_) return;
  pin_asserted_ = asserted;
  interrupts_.set_pci_interrupt(slot_, asserted);
}

// ---- The memory window

std::uint64_t VirtioPci::read(std::uint64_t offset, unsigned size, std::uint64_t) {
  const auto at = [&](std::uint64_t start) { return static_cast<unsigned>(offset - start); };
  if (offset < status_at) return read_common(at(common_at), size);
  if (offset < device_config_at) {
    if (offset != status_at) return 0;
    const std::uint8_t status = std::exchange(interrupt_status_, std::uint8_t{0});
    update_pin();
    return status;
  }
  if (offset < doorbells_at) return read_device_config(at(device_config_at), size);
  if (offset < messages_at) return 0;
  const bool pending = offset >= pending_at;
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size; i += 4) {
    const unsigned word = (at(pending ? pending_at : messages_at) + i) & ~3u;
    value |= std::uint64_t{pending ? read_pending(word) : read_message(word)} << (8 * i);
  }
  return low_bytes(value >> (8 * (size < 4 ? offset & 3u : 0)), size);
}

void VirtioPci::write(std::uint64_t offset, unsigned size, std::uint64_t value,
                      std::uint64_t now_ns) {
  if (offset < status_at) {
    write_common(static_cast<unsigned>(offset), size, low_bytes(value, size));
  } else if (offset >= device_config_at && offset < doorbells_at) {
    for (unsigned i = 0; i < size; ++i) {
      device_.config_write(static_cast<unsigned>(offset - device_config_at) + i,
                           static_cast<std::byte>(value >> (8 * i)));
    }
  } else if (offset >= doorbells_at && offset < messages_at) {
    const std::uint64_t index = (offset - doorbells_at) / doorbell_stride;
    if (index >= queues_.size()) return;
    queues_[index].notified = true;
    notified_ns_ = std::min(notified_ns_, now_ns);
  } else if (offset >= messages_at && offset < pending_at && size >= 4) {
    for (unsigned i = 0; i < size; i += 4) {
      write_message(static_cast<unsigned>(offset - messages_at) + i,
                    static_cast<std::uint32_t>(value >> (8 * i)));
    }
  }
}

std::uint64_t VirtioPci::read_common(unsigned offset, unsigned size) const {
  StateWriter image;
  const std::uint64_t offered = offered_features();
  const auto half = [](std::uint64_t features, std::uint32_t select) {
    return select > 1 ? 0 : static_cast<std::uint32_t>(features >> (32 * select));
  };
  image.u32(device_feature_select_);
  image.u32(half(offered, device_feature_select_));
  image.u32(driver_feature_select_);
  image.u32(half(driver_features_, driver_feature_select_));
  image.u16(config_vector_);
  image.u16(static_cast<std::uint16_t>(queues_.size()));
  image.u8(status_);
  image.u8(config_generation_);
  image.u16(queue_select_);
  if (const Queue* queue = selected()) {
    image.u16(queue->ring.size());
    image.u16(queue->vector);
    image.u16(queue->ring.enabled() ? 1 : 0);
    image.u16(queue_select_);  // its doorbell
    for (const std::uint64_t gpa :
         {queue->ring.descriptors, queue->ring.available, queue->ring.used}) {
      image.u64(gpa);
    }
  }
  const std::vector<std::byte> bytes = image.take();
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size && offset + i < bytes.size(); ++i) {
    value |= std::to_integer<std::uint64_t>(bytes[offset + i]) << (8 * i);
  }
  return value;
}

void VirtioPci::write_common(unsigned offset, unsigned size, std::uint64_t value) {
  const auto word = static_cast<std::uint32_t>(value);
  const auto half = static_cast<std::uint16_t>(value);
  if (offset >= 24) {
    if (Queue* queue = selected()) write_queue_register(*queue, offset, size, value);
  } else if (offset == 0 && size == 4) {
    device_feature_select_ = word;
  } else if (offset == 8 && size == 4) {
    driver_feature_select_ = word;
  } else if (offset == 12 && size == 4 && driver_feature_select_ <= 1) {
    if ((status_ & status_features_ok) != 0) return;
    const unsigned shift = 32 * driver_feature_select_;
    driver_features_ =
        (driver_features_ & ~(std::uint64_t{UINT32_MAX} << shift)) | std::uint64_t{word} << shift;
  } else if (offset == 16 && size == 2) {
    config_vector_ = half < messages_.size() ? half : no_vector;
  } else if (offset == 20 && size == 1) {
    write_status(static_cast<std::uint8_t>(value));
  } else if (offset == 22 && size == 2) {
    queue_select_ = half;
  }
}

void VirtioPci::write_queue_register(Queue& queue, unsigned offset, unsigned size,
                                     std::uint64_t value) {
  const auto half = static_cast<std::uint16_t>(value);
  if (offset == 26 && size == 2) {
    queue.vector = half < messages_.size() ? half : no_vector;
    return;
  }
  if (queue.ring.enabled()) return;
  if (offset == 24 && size == 2) {
    queue.ring.set_size(half);
  } else if (offset == 28 && size == 2 && value == 1) {
    queue.ring.enable();
    note_broken_queues();
  } else if (offset >= 32 && offset < common_bytes && size >= 4 && offset % size == 0) {
    std::uint64_t& gpa = offset < 40   ? queue.ring.descriptors
                         : offset < 48 ? queue.ring.available
                                       : queue.ring.used;
    const unsigned shift = 8 * (offset % 8);
    const std::uint64_t kept = size == 8 ? 0 : ~(std::uint64_t{UINT32_MAX} << shift);
    gpa = (gpa & kept) | value << shift;
  }
}

std::uint64_t VirtioPci::read_device_config(unsigned offset, unsigned size) const {
  const std::span<const std::byte> config = device_.config();
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size && offset + i < config.size(); ++i) {
    value |= std::to_integer<std::uint64_t>(config[offset + i]) << (8 * i);
  }
  return value;
}

std::uint32_t VirtioPci::read_message(unsigned offset) const {
  if (offset / message_bytes >= messages_.size()) return 0;
  const Message& message = messages_[offset / message_bytes];
  switch (offset % message_bytes / 4) {
    case 0:
      return message.address_low;
    case 1:
      return message.address_high;
    case 2:
      return message.data;
    default:
      return message.masked ? 1 : 0;
  }
}

std::uint32_t VirtioPci::read_pending(unsigned offset) const {
  std::uint32_t bits = 0;
  for (unsigned i = 8 * offset; offset < 8 && i < 8 * offset + 32 && i < messages_.size(); ++i) {
    bits |= std::uint32_t{messages_[i].pending} << (i % 32);
  }
  return bits;
}

void VirtioPci::write_message(unsigned offset, std::uint32_t value) {
  if (offset / message_bytes >= messages_.size()) return;
  Message& message = messages_[offset / message_bytes];
  switch (offset % message_bytes / 4) {
    case 0:
      message.address_low = value & ~3u;
      break;
    case 1:
      message.address_high = value;
      break;
    case 2:
      message.data = value;
      break;
    default:
      message.masked = (value & 1u) != 0;
      send_pending();
  }
}

// ---- The driver's protocol

void VirtioPci::write_status(std::uint8_t value) {
  if (value == 0) {
    reset_device();
    return;
  }
  std::uint8_t added = static_cast<std::uint8_t>(value & ~status_ & ~status_needs_reset);
  const bool features_fit =
      (driver_features_ & ~offered_features()) == 0 && (driver_features_ & feature_version_1) != 0;
  if (!features_fit) added &= static_cast<std::uint8_t>(~status_features_ok);
  if (((status_ | added) & status_features_ok) == 0) {
    added &= static_cast<std::uint8_t>(~status_driver_ok);
  }
  status_ |= added;
  if ((added & status_features_ok) != 0) {
    for (Queue& queue : queues_)
      queue.ring.set_event_index((driver_features_ & feature_event_index) != 0);
  }
  if ((added & status_driver_ok) != 0) device_.activate();
}

void VirtioPci::reset_device() {
  for (Queue& queue : queues_) {
    queue.ring.reset();
    queue.vector = no_vector;
    queue.notified = false;
  }
  notified_ns_ = no_deadline;
  device_feature_select_ = driver_feature_select_ = 0;
  driver_features_ = 0;
  config_vector_ = no_vector;
  queue_select_ = 0;
  status_ = 0;
  interrupt_status_ = 0;
  update_pin();
  device_.reset();
}

// ---- State

void VirtioPci::save(StateWriter& out) const {
  for (unsigned i = 0; i < config_bytes; ++i) {
    if (config_writable_[i] != 0) out.u8(config_space_[i] & config_writable_[i]);
  }
  for (const Message& message : messages_) {
    for (const std::uint32_t word : {message.address_low, message.address_high, message.data})
      out.u32(word);
    out.flag(message.masked);
    out.flag(message.pending);
  }
  for (const Queue& queue : queues_) {
    queue.ring.save(out);
    out.u16(queue.vector);
    out.flag(queue.notified);
  }
  out.u32(device_feature_select_);
  out.u32(driver_feature_select_);
  out.u64(driver_features_);
  out.u16(config_vector_);
  out.u16(queue_select_);
  for (const std::uint8_t byte : {status_, config_generation_, interrupt_status_})
    out.u8(byte);
  out.flag(pin_asserted_);
  out.u64(notified_ns_);
  device_.save(out);
}

bool VirtioPci::load(StateReader& in) {
  for (unsigned i = 0; i < config_bytes; ++i) {
    const std::uint8_t writable = config_writable_[i];
    if (writable == 0) continue;
    config_space_[i] =
        static_cast<std::uint8_t>((config_space_[i] & ~writable) | (in.u8() & writable));
  }
  for (Message& message : messages_) {
    for (std::uint32_t* word : {&message.address_low, &message.address_high, &message.data})
      *word = in.u32();
    message.masked = in.flag();
    message.pending = in.flag();
  }
  for (Queue& queue : queues_) {
    if (!queue.ring.load(in)) return false;
    queue.vector = in.u16();
    queue.notified = in.flag();
  }
  device_feature_select_ = in.u32();
  driver_feature_select_ = in.u32();
  driver_features_ = in.u64();
  config_vector_ = in.u16();
  queue_select_ = in.u16();
  for (std::uint8_t* byte : {&status_, &config_generation_, &interrupt_status_})
    *byte = in.u8();
  pin_asserted_ = in.flag();
  notified_ns_ = in.u64();
  return device_.load(in) && in.ok();
}

}  // namespace node_mesh
