#include "disk/layered_disk.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "machine/check.h"

namespace node_mesh {
namespace {

using Cluster = std::array<std::byte, cluster_bytes>;
constexpr Cluster zero_cluster{};

bool all_zero(std::span<const std::byte> bytes) {
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace

std::expected<std::unique_ptr<LayeredDisk>, std::string> LayeredDisk::create(
    std::unique_ptr<DiskImage> base, Options options) {
  if (options.size_bytes == 0) options.size_bytes = base->size_bytes();
  NM_CHECK(options.size_bytes % sector_bytes == 0 && options.size_bytes <= disk_bytes_max &&
           options.size_bytes >= base->size_bytes());
  std::unique_ptr<LayeredDisk> disk(new LayeredDisk(std::move(base), options));
  if (auto opened = disk->open_layers(options.layer_directory); !opened) {
    return std::unexpected("Cannot open " + opened.error());
  }
  return disk;
}

LayeredDisk::Outcome LayeredDisk::open_layers(const std::filesystem::path& directory) {
  NM_CHECK(layer_names_.size() <= UINT16_MAX);
  for (const Sha256& name : layer_names_) {
    auto layer = LayerFile::open(directory / hex_of(name), size_bytes_);
    if (!layer) return std::unexpected(layer.error());
    ClusterPlace place{.layer = static_cast<std::uint16_t>(sealed_.size())};
    for (const LayerEntry& entry : layer->entries()) {
      place.hash = entry.hash;
      place.kind = entry.zero ? Kind::zero : Kind::sealed;
      index_.set(entry.cluster, place);
      if (!entry.zero) ++place.slot;
    }
    sealed_.push_back(std::move(*layer));
  }
  epoch_ = 1;  // what the layers brought is not to be sealed again
  return {};
}

// The last cluster of a disk may be only partly on it.
std::uint64_t LayeredDisk::bytes_of(std::uint64_t cluster) const {
  return std::min<std::uint64_t>(cluster_bytes, size_bytes_ - cluster * cluster_bytes);
}

// ---- Reading

LayeredDisk::Outcome LayeredDisk::read_base(std::uint64_t offset, std::span<std::byte> into) {
  const std::uint64_t size = base_->size_bytes();
  const std::uint64_t there =
      offset >= size ? 0 : std::min<std::uint64_t>(into.size(), size - offset);
  const auto rest = into.subspan(static_cast<std::size_t>(there));
  if (!rest.empty()) std::memset(rest.data(), 0, rest.size());
  if (there == 0) return {};
  return base_->read(offset, into.first(static_cast<std::size_t>(there)));
}

LayeredDisk::Outcome LayeredDisk::read_sealed(std::uint64_t cluster, const ClusterPlace& place,
                                              std::size_t within, std::span<std::byte> into) const {
  const LayerFile& layer = sealed_[place.layer];
  if (into.size() == cluster_bytes) return layer.read(place.slot, cluster, place.hash, into);
  Cluster whole;
  if (auto got = layer.read(place.slot, cluster, place.hash, whole); !got) return got;
  std::memcpy(into.data(), whole.data() + within, into.size());
  return {};
}

LayeredDisk::Outcome LayeredDisk::read(std::uint64_t offset, std::span<std::byte> into) {
  NM_CHECK(offset <= size_bytes_ && into.size() <= size_bytes_ - offset);
  while (!into.empty()) {
    const std::uint64_t cluster = offset / cluster_bytes;
    const auto within = static_cast<std::size_t>(offset % cluster_bytes);
    const ClusterPlace place = index_.at(cluster);
    std::size_t count = std::min(into.size(), cluster_bytes - within);
    if (place.kind == Kind::base || place.kind == Kind::scratch) {
      // What follows in the same file is read with it.
      for (std::uint64_t next = cluster + 1; count < into.size(); ++next) {
        const ClusterPlace following = index_.at(next);
        if (following.kind != place.kind) break;
        if (place.kind == Kind::scratch && following.slot != place.slot + (next - cluster)) break;
        count = std::min(into.size(), count + cluster_bytes);
      }
    }
    const auto piece = into.first(count);
    Outcome done;
    if (place.kind == Kind::base) done = read_base(offset, piece);
    if (place.kind == Kind::scratch) done = scratch_.read(place.slot, within, piece);
    if (place.kind == Kind::sealed) done = read_sealed(cluster, place, within, piece);
    if (place.kind == Kind::zero) std::memset(piece.data(), 0, count);
    if (!done) return done;
    offset += count;
    into = into.subspan(count);
  }
  return {};
}

// A whole cluster, with zeros behind the end of the disk.
LayeredDisk::Outcome LayeredDisk::read_whole(std::uint64_t cluster, std::span<std::byte> into) {
  const auto there = static_cast<std::size_t>(bytes_of(cluster));
  std::memset(into.data() + there, 0, into.size() - there);
  return read(cluster * cluster_bytes, into.first(there));
}

// ---- Writing

void LayeredDisk::touch(std::uint64_t cluster, const ClusterPlace& before) {
  const bool first = before.kind == Kind::base || before.epoch != epoch_;
  if (first) touched_.push_back(cluster);
}

void LayeredDisk::let_go(const ClusterPlace& place) {
  if (place.kind != Kind::scratch) return;
  if (sealing_ && place.epoch != epoch_) {
    after_seal_.push_back(place.slot);
  } else {
    scratch_.release(place.slot);
  }
}

void LayeredDisk::set_zero(std::uint64_t cluster) {
  const ClusterPlace before = index_.at(cluster);
  touch(cluster, before);
  let_go(before);
  index_.set(cluster,
             {.hash = cluster_hash(cluster, zero_cluster), .epoch = epoch_, .kind = Kind::zero});
}

LayeredDisk::Outcome LayeredDisk::flush_run() {
  if (run_.empty()) return {};
  auto wrote = scratch_.write(run_slot_, run_);
  run_ = {};
  return wrote;
}

LayeredDisk::Outcome LayeredDisk::write_whole(std::uint64_t cluster,
                                              std::span<const std::byte> bytes) {
  if (all_zero(bytes)) {
    set_zero(cluster);
    return {};
  }
  const ClusterPlace before = index_.at(cluster);
  touch(cluster, before);
  ClusterPlace place{.hash = cluster_hash(cluster, bytes), .epoch = epoch_, .kind = Kind::scratch};
  const bool in_place = before.kind == Kind::scratch && !(sealing_ && before.epoch != epoch_);
  if (!in_place) let_go(before);
  place.slot = in_place ? before.slot : scratch_.allocate();
  index_.set(cluster, place);
  const bool goes_on = !run_.empty() && run_.data() + run_.size() == bytes.data() &&
                       place.slot == run_slot_ + run_.size() / cluster_bytes;
  if (goes_on) {
    run_ = {run_.data(), run_.size() + bytes.size()};
    return {};
  }
  auto flushed = flush_run();
  run_slot_ = place.slot;
  run_ = bytes;
  return flushed;
}

LayeredDisk::Outcome LayeredDisk::write_part(std::uint64_t cluster, std::size_t within,
                                             std::span<const std::byte> from) {
  Cluster whole;
  if (auto got = read_whole(cluster, whole); !got) return got;
  std::memcpy(whole.data() + within, from.data(), from.size());
  if (auto wrote = write_whole(cluster, whole); !wrote) return wrote;
  return flush_run();
}

LayeredDisk::Outcome LayeredDisk::write(std::uint64_t offset, std::span<const std::byte> from) {
  NM_CHECK(offset <= size_bytes_ && from.size() <= size_bytes_ - offset);
  while (!from.empty()) {
    const std::uint64_t cluster = offset / cluster_bytes;
    const auto within = static_cast<std::size_t>(offset % cluster_bytes);
    const std::size_t count = std::min(from.size(), cluster_bytes - within);
    const auto piece = from.first(count);
    if (count < cluster_bytes) {
      // Its old bytes may still wait to be written.
      if (auto flushed = flush_run(); !flushed) return flushed;
    }
    auto wrote =
        count == cluster_bytes ? write_whole(cluster, piece) : write_part(cluster, within, piece);
    if (!wrote) return wrote;
    offset += count;
    from = from.subspan(count);
  }
  return flush_run();
}

LayeredDisk::Outcome LayeredDisk::write_zeros(std::uint64_t offset, std::uint64_t bytes) {
  NM_CHECK(offset <= size_bytes_ && bytes <= size_bytes_ - offset);
  const std::uint64_t end = offset + bytes;
  while (offset < end) {
    const std::uint64_t cluster = offset / cluster_bytes;
    const auto within = static_cast<std::size_t>(offset % cluster_bytes);
    const std::uint64_t count = std::min<std::uint64_t>(end - offset, cluster_bytes - within);
    if (within == 0 && count == bytes_of(cluster)) {
      set_zero(cluster);
    } else {
      const auto zeros = std::span(zero_cluster).first(static_cast<std::size_t>(count));
      if (auto wrote = write_part(cluster, within, zeros); !wrote) return wrote;
    }
    offset += count;
  }
  return {};
}

LayeredDisk::Outcome LayeredDisk::discard(std::uint64_t offset, std::uint64_t bytes) {
  NM_CHECK(offset <= size_bytes_ && bytes <= size_bytes_ - offset);
  const std::uint64_t end = offset + bytes;
  std::uint64_t cluster = (offset + cluster_bytes - 1) / cluster_bytes;
  for (; cluster * cluster_bytes < end; ++cluster) {
    if (cluster * cluster_bytes + bytes_of(cluster) <= end) set_zero(cluster);
  }
  return {};
}

// ---- Sealing

FrozenLayer LayeredDisk::freeze() {
  NM_CHECK(!sealing_);
  FrozenLayer frozen;
  frozen.disk_ = this;
  const auto take = [&](std::uint64_t cluster, const ClusterPlace& place) {
    frozen.entries_.push_back({cluster, place.hash, place.kind == Kind::zero});
    frozen.places_.push_back(place);
  };
  std::ranges::sort(touched_);
  touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
  if (merge_next_ || (layer_names_.size() + 1 > layers_max && !touched_.empty())) {
    frozen.merges_ = true;
    index_.for_each(take);
  } else {
    for (const std::uint64_t cluster : touched_)
      take(cluster, index_.at(cluster));
  }
  touched_.clear();
  ++epoch_;
  sealing_ = true;
  return frozen;
}

std::expected<Sha256, std::string> FrozenLayer::write(
    const std::filesystem::path& directory) const {
  const auto source = [this](std::size_t index, std::span<std::byte> into) {
    const ClusterPlace& place = places_[index];
    if (place.kind == ClusterPlace::Kind::scratch) {
      return disk_->scratch_.read(place.slot, 0, into);
    }
    const LayerEntry& entry = entries_[index];
    return disk_->sealed_[place.layer].read(place.slot, entry.cluster, entry.hash, into);
  };
  return write_layer(directory, disk_->size_bytes_, entries_, source);
}

void LayeredDisk::end_seal() {
  NM_CHECK(sealing_);
  sealing_ = false;
  for (const std::uint32_t slot : after_seal_)
    scratch_.release(slot);
  after_seal_.clear();
}

void LayeredDisk::seal_done(const FrozenLayer& frozen, const Sha256& name) {
  end_seal();
  if (frozen.merges()) {
    layer_names_.clear();
    merge_next_ = false;
  }
  layer_names_.push_back(name);
}

void LayeredDisk::seal_failed(const FrozenLayer& frozen) {
  end_seal();
  // What was frozen belongs to the next layer again.
  if (frozen.merges()) merge_next_ = true;
  for (const LayerEntry& entry : frozen.entries_)
    touched_.push_back(entry.cluster);
}

}  // namespace node_mesh
