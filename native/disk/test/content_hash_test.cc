// A disk's name: of its content alone, whatever file holds it.
#include "disk/content_hash.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "qcow2_maker.h"
#include "replay/file.h"
#include "scratch_directory.h"

namespace node_mesh::test {
namespace {

Sha256 name_of(const std::filesystem::path& path) {
  auto image = open_disk_image(path);
  REQUIRE(image);
  auto name = disk_content_hash(**image);
  REQUIRE(name);
  return *name;
}

TEST_CASE("raw, sparse and qcow2 files of one disk have one name") {
  const ScratchDirectory directory;
  std::mt19937_64 random(1);
  Bytes content(5'000'704);
  const Bytes data = random_bytes(random, 200'000);
  std::copy(data.begin(), data.end(), content.begin() + 3'000'000);
  const auto raw = directory.write("raw", content);
  const Sha256 name = name_of(raw);

  const auto sparse = directory.path() / "sparse";
  auto file = open_file(sparse, O_WRONLY | O_CREAT, 0600);
  REQUIRE(file);
  REQUIRE(::ftruncate(file->get(), static_cast<off_t>(content.size())) == 0);
  REQUIRE(::pwrite(file->get(), data.data(), data.size(), 3'000'000) == 200'000);
  CHECK(name_of(sparse) == name);

  Qcow2Plan plan;
  plan.kind_of = [&](std::uint64_t index) {
    return index < 100 ? ClusterKind::zero : ClusterKind::compressed;
  };
  CHECK(name_of(directory.write("qcow2", make_qcow2(plan, content))) == name);

  content[4'000'000] ^= std::byte{1};
  CHECK(name_of(directory.write("other", content)) != name);
  content[4'000'000] ^= std::byte{1};
  content.resize(content.size() + 512);
  CHECK(name_of(directory.write("longer", content)) != name);
}

TEST_CASE("a name is remembered until the file changes") {
  const ScratchDirectory directory;
  const ContentHashCache cache(directory.path() / "cache");
  std::mt19937_64 random(2);
  const auto path = directory.write("image", random_bytes(random, 1 << 20));
  const auto names = [&] {
    auto image = open_disk_image(path);
    REQUIRE(image);
    auto name = cache.hash(**image);
    REQUIRE(name);
    return *name;
  };
  const auto changed_s_ago = [&](time_t seconds) {
    const timespec times[2] = {{::time(nullptr) - seconds, 0}, {::time(nullptr) - seconds, 0}};
    REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  };
  const Sha256 first = names();  // too new to be remembered
  CHECK(!std::filesystem::exists(directory.path() / "cache"));
  changed_s_ago(100);
  CHECK(names() == first);
  CHECK(std::filesystem::exists(directory.path() / "cache"));
  // That it is remembered shows by a change that hides behind the same time.
  directory.write("image", random_bytes(random, 1 << 20));
  const Sha256 second = names();
  CHECK(second != first);
  changed_s_ago(50);
  CHECK(names() == second);
  for (int i = 0; i < 2; ++i)
    CHECK(names() == second);
}

}  // namespace
}  // namespace node_mesh::test
