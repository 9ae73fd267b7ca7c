// The disk of one copy of a machine: an image that nobody changes, sealed layers of clusters that
// the guest wrote before the last checkpoints, and a scratch file with what it wrote since.
// Everything is a function of the image and of the calls made, so all copies have the same disk
// without a byte of it in the log.
//
// A seal has two halves. freeze() is over at once and says what was written since the freeze before
// it; the guest goes on meanwhile, and what it overwrites gets new slots. FrozenLayer::write() is
// slow and may run in another thread or in a forked child. Then seal_done() or seal_failed().
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "disk/cluster_index.h"
#include "disk/disk_image.h"
#include "disk/layer_file.h"
#include "disk/scratch_file.h"

namespace node_mesh {

// A longer chain is written anew as one layer, so that opening a disk stays cheap.
inline constexpr std::size_t layers_max = 16;

class LayeredDisk;

// What write() needs is kept from changing until seal_done() or seal_failed().
class FrozenLayer {
 public:
  // The name of the file that it wrote into `directory`. The error is a whole line.
  std::expected<Sha256, std::string> write(const std::filesystem::path& directory) const;
  bool empty() const { return entries_.empty(); }
  // It holds the layers below too and takes their place.
  bool merges() const { return merges_; }
  std::uint64_t clusters() const { return entries_.size(); }

 private:
  friend class LayeredDisk;
  const LayeredDisk* disk_ = nullptr;
  std::vector<LayerEntry> entries_;
  std::vector<ClusterPlace> places_;
  bool merges_ = false;
};

class LayeredDisk {
 public:
  using Outcome = std::expected<void, std::string>;
  struct Options {
    std::uint64_t size_bytes = 0;               // 0: the image's; else at least that
    std::filesystem::path layer_directory{};    // where the layers are
    std::vector<Sha256> layers{};               // from the lowest
    std::filesystem::path scratch_directory{};  // see ScratchFile
  };

  static std::expected<std::unique_ptr<LayeredDisk>, std::string> create(
      std::unique_ptr<DiskImage> base, Options options);

  std::uint64_t size_bytes() const { return size_bytes_; }
  // Of everything that was written over the image, a function of content alone.
  std::uint64_t content_sum() const { return index_.content_sum(); }

  // All ranges lie within the disk. Errors are whole sentences that name the file; after one of
  // them the disk is in no defined state.
  Outcome read(std::uint64_t offset, std::span<std::byte> into);
  Outcome write(std::uint64_t offset, std::span<const std::byte> from);
  Outcome write_zeros(std::uint64_t offset, std::uint64_t bytes);
  // Whole clusters become zeros; a rest at either end keeps its bytes.
  Outcome discard(std::uint64_t offset, std::uint64_t bytes);

  // One at a time.
  FrozenLayer freeze();
  void seal_done(const FrozenLayer& frozen, const Sha256& name);
  void seal_failed(const FrozenLayer& frozen);
  const std::vector<Sha256>& layers() const { return layer_names_; }

 private:
  friend class FrozenLayer;
  using Kind = ClusterPlace::Kind;
  LayeredDisk(std::unique_ptr<DiskImage> base, const Options& options)
      : base_(std::move(base)),
        size_bytes_(options.size_bytes),
        index_((options.size_bytes + cluster_bytes - 1) / cluster_bytes),
        scratch_(options.scratch_directory),
        layer_names_(options.layers) {}
  Outcome open_layers(const std::filesystem::path& directory);
  std::uint64_t bytes_of(std::uint64_t cluster) const;
  Outcome read_base(std::uint64_t offset, std::span<std::byte> into);
  Outcome read_sealed(std::uint64_t cluster, const ClusterPlace& place, std::size_t within,
                      std::span<std::byte> into) const;
  Outcome read_whole(std::uint64_t cluster, std::span<std::byte> into);
  Outcome write_part(std::uint64_t cluster, std::size_t within, std::span<const std::byte> from);
  Outcome write_whole(std::uint64_t cluster, std::span<const std::byte> bytes);
  void set_zero(std::uint64_t cluster);
  void let_go(const ClusterPlace& place);
  void touch(std::uint64_t cluster, const ClusterPlace& before);
  Outcome flush_run();
  void end_seal();

  std::unique_ptr<DiskImage> base_;
  std::uint64_t size_bytes_;
  ClusterIndex index_;
  ScratchFile scratch_;
  std::vector<Sha256> layer_names_;
  std::vector<LayerFile> sealed_;  // those that were there at the start
  std::uint32_t epoch_ = 0;
  bool sealing_ = false;
  bool merge_next_ = false;                // a merged layer could not be written
  std::vector<std::uint64_t> touched_;     // clusters written since the last freeze
  std::vector<std::uint32_t> after_seal_;  // slots to be released when the seal is over

  // Clusters of the write that is going on, for slots that follow each other.
  std::uint32_t run_slot_ = 0;
  std::span<const std::byte> run_;
};

}  // namespace node_mesh
