// qcow2 images: every kind of cluster reads as what was put in, and whatever a hostile image says
// ends in an error or in bytes of its own, never in a crash, a hang or a file elsewhere.
#include <doctest/doctest.h>

#include <fstream>

#include "disk/disk_image.h"
#include "qcow2_maker.h"
#include "scratch_directory.h"

namespace node_mesh::test {
namespace {

ClusterKind any_kind(std::mt19937_64& random, std::uint32_t version) {
  const auto kind = static_cast<ClusterKind>(random() % 4);
  return version == 2 && kind == ClusterKind::zero ? ClusterKind::data : kind;
}

// Compressible, and different in each cluster.
Bytes content_of(std::mt19937_64& random, std::size_t bytes) {
  Bytes content(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    content[i] = i % 64 == 0 ? static_cast<std::byte>(random()) : static_cast<std::byte>(i);
  }
  return content;
}

struct Made {
  Bytes file;
  Bytes expected;
};

// Where the image has nothing, `below` shines through.
Made random_image(std::mt19937_64& random, Qcow2Plan plan, const Bytes& below) {
  const std::size_t cluster = std::size_t{1} << plan.cluster_bits;
  const Bytes content = content_of(random, 512 * (1 + random() % (40 * cluster / 512)));
  std::vector<ClusterKind> kinds(content.size() / cluster + 1);
  for (ClusterKind& kind : kinds)
    kind = any_kind(random, plan.version);
  plan.kind_of = [&](std::uint64_t index) { return kinds[index]; };
  Made made{make_qcow2(plan, content), content};
  for (std::size_t i = 0; i < content.size(); ++i) {
    const ClusterKind kind = kinds[i / cluster];
    if (kind == ClusterKind::zero) made.expected[i] = std::byte{0};
    if (kind == ClusterKind::unallocated) {
      made.expected[i] = i < below.size() ? below[i] : std::byte{0};
    }
  }
  return made;
}

std::string error_of(const ScratchDirectory& directory, const Bytes& file) {
  const auto image = open_disk_image(directory.write("image", file));
  return image ? "" : image.error();
}

TEST_CASE("qcow2 of every kind reads as what was put in") {
  const ScratchDirectory directory;
  for (std::uint64_t seed = first_seed(); seed < first_seed() + 40; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    Qcow2Plan plan;
    plan.version = random() % 3 == 0 ? 2 : 3;
    plan.cluster_bits = 9 + static_cast<std::uint32_t>(random() % 6);
    plan.zstd = plan.version == 3 && random() % 2 == 0;
    Bytes below;
    if (random() % 2 == 0) {
      below = random_bytes(random, 512 * (1 + random() % 100));
      directory.write("below.raw", below);
      plan.backing_file = "below.raw";
    }
    const Made made = random_image(random, plan, below);
    auto image = open_disk_image(directory.write("image.qcow2", made.file));
    REQUIRE_MESSAGE(image, image.error());
    REQUIRE((*image)->size_bytes() == made.expected.size());
    CHECK(read_all(**image) == made.expected);
    for (int round = 0; round < 50; ++round) {
      const std::size_t at = random() % made.expected.size();
      Bytes piece(random() % std::min<std::size_t>(made.expected.size() - at, 20'000) + 1);
      piece.resize(std::min(piece.size(), made.expected.size() - at));
      REQUIRE((*image)->read(at, piece));
      CHECK(std::equal(piece.begin(), piece.end(),
                       made.expected.begin() + static_cast<std::ptrdiff_t>(at)));
      const auto extent = (*image)->extent(at);
      REQUIRE(extent);
      REQUIRE(extent->bytes > 0);
      for (std::size_t i = at; extent->zero && i < at + extent->bytes; ++i)
        REQUIRE(made.expected[i] == std::byte{0});
    }
  }
}

TEST_CASE("a chain of backing files, and chains that are refused") {
  const ScratchDirectory directory;
  std::mt19937_64 random(4);
  const Bytes content = content_of(random, 64 << 10);
  Qcow2Plan plan;
  plan.kind_of = [](std::uint64_t index) {
    return index % 2 == 0 ? ClusterKind::data : ClusterKind::unallocated;
  };
  directory.write("base.qcow2", make_qcow2(plan, content));
  plan.backing_file = "base.qcow2";
  plan.backing_format = "qcow2";
  plan.kind_of = [](std::uint64_t) { return ClusterKind::unallocated; };
  auto image = open_disk_image(directory.write("top.qcow2", make_qcow2(plan, content)));
  REQUIRE_MESSAGE(image, image.error());
  CHECK(read_all(**image) == read_all(**open_disk_image(directory.path() / "base.qcow2")));

  const auto refused = [&](const std::string& name, const std::string& format,
                           const std::string& why) {
    CAPTURE(name);
    plan.backing_file = name;
    plan.backing_format = format;
    const std::string error = error_of(directory, make_qcow2(plan, content));
    CHECK_MESSAGE(error.find(why) != std::string::npos, error);
  };
  refused("image", "qcow2", "its own backing file");
  refused("missing", "qcow2", "no such file");
  refused("/etc/passwd", "raw", "not in the image's own directory");
  refused("../../../../../../../../etc/passwd", "raw", "not in the image's own directory");
  std::filesystem::create_symlink("/etc/passwd", directory.path() / "link");
  refused("link", "raw", "not in the image's own directory");
  refused("base.qcow2", "", "does not say whether");
  refused("base.qcow2", "vmdk", "does not say whether");
  refused("json:{}", "raw", "no such file");
}

TEST_CASE("a loop over several files is found") {
  const ScratchDirectory directory;
  Qcow2Plan plan;
  plan.kind_of = [](std::uint64_t) { return ClusterKind::unallocated; };
  plan.backing_format = "qcow2";
  for (const auto& [name, backing] : {std::pair("a", "b"), std::pair("b", "c"), {"c", "a"}}) {
    plan.backing_file = backing;
    directory.write(name, make_qcow2(plan, Bytes(8192)));
  }
  const auto image = open_disk_image(directory.path() / "a");
  REQUIRE(!image);
  CHECK(image.error().find("its own backing file") != std::string::npos);
}

TEST_CASE("what is not supported is refused by name") {
  const ScratchDirectory directory;
  const auto error_with = [&](auto change) {
    Qcow2Plan plan;
    plan.kind_of = [](std::uint64_t) { return ClusterKind::data; };
    change(plan);
    return error_of(directory, make_qcow2(plan, Bytes(8192)));
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(error_with([](Qcow2Plan& plan) { plan.incompatible = 1; }).empty());
  CHECK(has(error_with([](Qcow2Plan& plan) { plan.encryption = 1; }), "encrypted"));
  CHECK(has(error_with([](Qcow2Plan& plan) { plan.incompatible = 2; }), "corrupt"));
  CHECK(has(error_with([](Qcow2Plan& plan) { plan.incompatible = 4; }), "in another file"));
  CHECK(has(error_with([](Qcow2Plan& plan) { plan.incompatible = 16; }), "extended L2"));
  CHECK(has(error_with([](Qcow2Plan& plan) { plan.incompatible = 1u << 9; }), "number 9"));
  CHECK(has(error_with([](Qcow2Plan& plan) {
              plan.incompatible = 1u << 9;
              plan.feature_name = "teleportation";
            }),
            "\"teleportation\""));
  CHECK(has(error_with([](Qcow2Plan& plan) { plan.version = 4; }), "version 4"));
  CHECK(has(
      error_of(directory, Bytes{std::byte{'Q'}, std::byte{'F'}, std::byte{'I'}, std::byte{0xfb}}),
      "cut off"));
  CHECK(open_disk_image(directory.path()).error().find("directory") != std::string::npos);
}

TEST_CASE("a file that changes under us is an error, not other data") {
  const ScratchDirectory directory;
  std::mt19937_64 random(5);
  for (const bool qcow2 : {false, true}) {
    CAPTURE(qcow2);
    Qcow2Plan plan;
    plan.kind_of = [](std::uint64_t) { return ClusterKind::data; };
    const Bytes content = content_of(random, 1 << 20);
    const auto path = directory.write("image", qcow2 ? make_qcow2(plan, content) : content);
    Bytes piece(4096);
    auto image = open_disk_image(path);
    REQUIRE(image);
    REQUIRE((*image)->read(0, piece));
    std::filesystem::resize_file(path, 300'000);
    const auto read = (*image)->read(900'000, piece);
    REQUIRE(!read);
    CHECK(read.error().find("cut off while in use") != std::string::npos);
    image = open_disk_image(directory.write("image", content));
    std::ofstream(path, std::ios::app) << "more";
    CHECK((*image)->read(0, piece).error().find("changed while in use") != std::string::npos);
  }
}

TEST_CASE("damaged images: an error or bytes, whatever was changed") {
  const ScratchDirectory directory;
  std::size_t refused = 0;
  for (std::uint64_t seed = first_seed(); seed < first_seed() + 400; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    Qcow2Plan plan;
    plan.cluster_bits = 9 + static_cast<std::uint32_t>(random() % 4);
    plan.zstd = random() % 2 == 0;
    Made made = random_image(random, plan, {});
    const std::size_t head = std::min<std::size_t>(made.file.size(), 4096);
    for (std::size_t i = 0; i < 1 + random() % 8; ++i) {
      const std::size_t range = random() % 2 == 0 ? head : made.file.size();
      made.file[random() % range] = static_cast<std::byte>(random() % 3 == 0 ? 0xff : random());
    }
    if (random() % 4 == 0) made.file.resize(random() % made.file.size());
    auto image = open_disk_image(directory.write("image", made.file));
    if (!image) {
      ++refused;
      continue;
    }
    // A header may say that it is large: only the ends are looked at then.
    Bytes piece(static_cast<std::size_t>(std::min<std::uint64_t>((*image)->size_bytes(), 1 << 20)));
    if (piece.empty()) continue;
    const bool read = (*image)->read(0, piece).has_value() &&
                      (*image)->read((*image)->size_bytes() - piece.size(), piece).has_value() &&
                      (*image)->extent((*image)->size_bytes() - 1).has_value();
    refused += read ? 0 : 1;
  }
  CHECK(refused > 50);
}

}  // namespace
}  // namespace node_mesh::test
