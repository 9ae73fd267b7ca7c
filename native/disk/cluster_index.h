// Where the newest bytes of each cluster of a disk are. In memory only; what was never written
// costs nothing. The sum of the clusters' hashes is kept up to date with every change: it names the
// disk's content above its base, for digests.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace node_mesh {

struct ClusterPlace {
  enum class Kind : std::uint8_t { base, zero, scratch, sealed };
  std::uint64_t hash = 0;
  std::uint32_t slot = 0;   // in the scratch file or in the sealed layer
  std::uint32_t epoch = 0;  // how many times the disk had been frozen when it was written
  std::uint16_t layer = 0;  // which sealed layer
  Kind kind = Kind::base;
};

class ClusterIndex {
 public:
  explicit ClusterIndex(std::uint64_t cluster_count)
      : regions_(
            static_cast<std::size_t>((cluster_count + region_clusters - 1) / region_clusters)) {}

  ClusterPlace at(std::uint64_t cluster) const {
    const auto& region = regions_[static_cast<std::size_t>(cluster / region_clusters)];
    return region ? (*region)[cluster % region_clusters] : ClusterPlace{};
  }

  void set(std::uint64_t cluster, const ClusterPlace& place) {
    auto& region = regions_[static_cast<std::size_t>(cluster / region_clusters)];
    if (!region) region = std::make_unique<Region>();
    ClusterPlace& entry = (*region)[cluster % region_clusters];
    if (entry.kind != ClusterPlace::Kind::base) content_sum_ -= entry.hash;
    if (place.kind != ClusterPlace::Kind::base) content_sum_ += place.hash;
    entry = place;
  }

  std::uint64_t content_sum() const { return content_sum_; }

  // Calls visit(cluster, place) for each cluster that is not the base's, by rising number.
  template <typename Visit>
  void for_each(Visit visit) const {
    for (std::size_t i = 0; i < regions_.size(); ++i) {
      if (!regions_[i]) continue;
      for (std::size_t j = 0; j < region_clusters; ++j) {
        const ClusterPlace& place = (*regions_[i])[j];
        if (place.kind != ClusterPlace::Kind::base) visit(i * region_clusters + j, place);
      }
    }
  }

 private:
  static constexpr std::size_t region_clusters = 512;
  using Region = std::array<ClusterPlace, region_clusters>;
  std::vector<std::unique_ptr<Region>> regions_;
  std::uint64_t content_sum_ = 0;
};

}  // namespace node_mesh
