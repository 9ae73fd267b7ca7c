// The layered disk against an array of bytes: random reads, writes, zeros, discards, seals that
// succeed, fail and overlap with writes, and disks opened again from their layers.
#include "disk/layered_disk.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "scratch_directory.h"

namespace node_mesh::test {
namespace {

namespace fs = std::filesystem;

class Model {
 public:
  Model(const ScratchDirectory& directory, std::uint64_t seed)
      : directory_(directory), random_(seed) {
    Bytes base = random_bytes(random_, 512 * (1 + draw(400)));
    base_ = directory_.write("base", base);
    bytes_ = std::move(base);
    bytes_.resize(bytes_.size() + 512 * draw(100));
    open({});
  }

  void step() {
    switch (draw(10)) {
      case 0:
      case 1:
      case 2:
        return read();
      case 3:
      case 4:
      case 5:
        return write();
      case 6:
        return zeros();
      case 7:
        return discard();
      case 8:
        return frozen_ ? end_seal() : begin_seal();
      default:
        if (draw(8) == 0) reopen();
    }
  }

  void compare() {
    Bytes all(bytes_.size());
    REQUIRE(disk_->read(0, all));
    REQUIRE(all == bytes_);
  }

  std::uint64_t draw(std::uint64_t below) { return random_() % below; }
  std::size_t merges = 0;

 private:
  void open(std::vector<Sha256> layers) {
    auto image = open_disk_image(base_, DiskFormat::raw);
    REQUIRE(image);
    auto disk = LayeredDisk::create(std::move(*image), {.size_bytes = bytes_.size(),
                                                        .layer_directory = directory_.path(),
                                                        .layers = std::move(layers),
                                                        .scratch_directory = directory_.path()});
    REQUIRE_MESSAGE(disk, disk.error());
    disk_ = std::move(*disk);
  }

  std::pair<std::size_t, std::size_t> range(std::size_t unit) {
    const std::size_t from = draw(bytes_.size() / unit) * unit;
    const std::size_t count = std::min((1 + draw(60'000 / unit)) * unit, bytes_.size() - from);
    return {from, count};
  }

  auto at(std::size_t offset) { return bytes_.begin() + static_cast<std::ptrdiff_t>(offset); }

  void read() {
    const auto [from, count] = range(1);
    Bytes piece(count);
    REQUIRE(disk_->read(from, piece));
    REQUIRE(std::equal(piece.begin(), piece.end(), at(from)));
  }

  void write() {
    const auto [from, count] = range(draw(2) == 0 ? 512 : 1);
    const Bytes piece = draw(5) == 0 ? Bytes(count) : random_bytes(random_, count);
    REQUIRE(disk_->write(from, piece));
    std::copy(piece.begin(), piece.end(), at(from));
  }

  void zeros() {
    const auto [from, count] = range(512);
    REQUIRE(disk_->write_zeros(from, count));
    std::fill_n(at(from), count, std::byte{0});
  }

  void discard() {
    const auto [from, count] = range(512);
    REQUIRE(disk_->discard(from, count));
    const std::size_t first = (from + cluster_bytes - 1) / cluster_bytes * cluster_bytes;
    std::size_t last = (from + count) / cluster_bytes * cluster_bytes;
    if (from + count == bytes_.size()) last = bytes_.size();
    if (first < last) std::fill(at(first), at(last), std::byte{0});
  }

  void begin_seal() {
    frozen_ = disk_->freeze();
    frozen_bytes_ = bytes_;
    frozen_sum_ = disk_->content_sum();
  }

  void end_seal() {
    if (draw(4) == 0) {
      CHECK(!frozen_->write(directory_.path() / "nowhere"));
      disk_->seal_failed(*frozen_);
    } else {
      const auto name = frozen_->write(directory_.path());
      REQUIRE_MESSAGE(name, name.error());
      REQUIRE(check_layer_name(directory_.path() / hex_of(*name), *name));
      merges += frozen_->merges() ? 1 : 0;
      disk_->seal_done(*frozen_, *name);
      sealed_bytes_ = frozen_bytes_;
      sealed_sum_ = frozen_sum_;
    }
    frozen_.reset();
  }

  // The process died: what was sealed last is what there is.
  void reopen() {
    if (!sealed_bytes_) return;
    const auto layers = disk_->layers();
    bytes_ = *sealed_bytes_;
    frozen_.reset();
    open(layers);
    REQUIRE(disk_->content_sum() == sealed_sum_);
    compare();
  }

  const ScratchDirectory& directory_;
  std::mt19937_64 random_;
  fs::path base_;
  Bytes bytes_;
  std::unique_ptr<LayeredDisk> disk_;
  std::optional<FrozenLayer> frozen_;
  Bytes frozen_bytes_;
  std::uint64_t frozen_sum_ = 0;
  std::optional<Bytes> sealed_bytes_;
  std::uint64_t sealed_sum_ = 0;
};

TEST_CASE("the disk is what an array of bytes would be, over seals and restarts") {
  std::size_t merges = 0;
  for (std::uint64_t seed = first_seed(); seed < first_seed() + 12; ++seed) {
    CAPTURE(seed);
    const ScratchDirectory directory;
    Model model(directory, seed);
    for (int i = 0; i < 600; ++i)
      model.step();
    model.compare();
    merges += model.merges;
  }
  CHECK(merges > 0);
}

std::unique_ptr<LayeredDisk> disk_of(const fs::path& base, const fs::path& directory,
                                     std::vector<Sha256> layers = {}) {
  auto disk = LayeredDisk::create(
      std::move(*open_disk_image(base, DiskFormat::raw)),
      {.layer_directory = directory, .layers = std::move(layers), .scratch_directory = directory});
  REQUIRE_MESSAGE(disk, disk.error());
  return std::move(*disk);
}

TEST_CASE("the sum of a disk's content does not depend on how it came about") {
  const ScratchDirectory directory;
  std::mt19937_64 random(3);
  const auto base = directory.write("base", Bytes(1 << 20));
  const Bytes data = random_bytes(random, 64 << 10);
  const auto one = disk_of(base, directory.path());
  const auto other = disk_of(base, directory.path());
  CHECK(one->content_sum() == 0);
  REQUIRE(one->write(8192, data));
  for (std::size_t at = 0; at < data.size(); at += 512) {
    REQUIRE(other->write(8192 + at, std::span(data).subspan(at, 512)));
  }
  CHECK(one->content_sum() == other->content_sum());
  REQUIRE(other->write(8192, Bytes(1)));
  CHECK(one->content_sum() != other->content_sum());
}

TEST_CASE("a damaged layer is found, wherever the damage is") {
  const ScratchDirectory directory;
  std::mt19937_64 random(first_seed());
  const auto base = directory.write("base", Bytes(1 << 20));
  const auto disk = disk_of(base, directory.path());
  const Bytes data = random_bytes(random, 100 << 10);
  REQUIRE(disk->write(0, data));
  REQUIRE(disk->write_zeros(200 << 10, 50 << 10));
  const FrozenLayer frozen = disk->freeze();
  const auto name = frozen.write(directory.path());
  REQUIRE(name);
  disk->seal_done(frozen, *name);
  const fs::path path = directory.path() / hex_of(*name);
  const Bytes whole = *read_file(path, 1 << 30);
  const auto found = [&](const Bytes& bytes) {
    directory.write(hex_of(*name), bytes);
    if (!check_layer_name(path, *name)) {
      auto opened = LayeredDisk::create(std::move(*open_disk_image(base, DiskFormat::raw)),
                                        {.layer_directory = directory.path(), .layers = {*name}});
      if (!opened) return true;
      Bytes all(static_cast<std::size_t>((*opened)->size_bytes()));
      return !(*opened)->read(0, all).has_value();
    }
    return false;
  };
  CHECK(!found(whole));
  for (int i = 0; i < 100; ++i) {
    Bytes bytes = whole;
    const std::size_t at = random() % bytes.size();
    bytes[at] ^= static_cast<std::byte>(1u << random() % 8);
    CAPTURE(at);
    // The padding before the data is the one place where only the name tells.
    const bool padding = at >= 40 + frozen.clusters() * 16 + 8 && at < 4096;
    if (!padding) CHECK(found(bytes));
  }
  for (int i = 0; i < 20; ++i) {
    Bytes bytes = whole;
    bytes.resize(random() % bytes.size());
    CHECK(found(bytes));
  }
  directory.write(hex_of(*name), whole);
  CHECK(disk_of(base, directory.path(), {*name})->content_sum() == disk->content_sum());
}

}  // namespace
}  // namespace node_mesh::test
