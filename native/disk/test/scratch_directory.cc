#include "scratch_directory.h"

#include <fcntl.h>

#include <cstdlib>
#include <stdexcept>

#include "replay/file.h"

namespace node_mesh::test {

namespace fs = std::filesystem;

ScratchDirectory::ScratchDirectory() {
  std::string name = (fs::temp_directory_path() / "node-mesh-disk-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path ScratchDirectory::write(std::string_view name, std::span<const std::byte> bytes) const {
  const fs::path path = path_ / name;
  auto file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!file || !write_all(file->get(), bytes)) throw std::runtime_error("cannot write a file");
  return path;
}

std::uint64_t first_seed() {
  const char* text = std::getenv("NODE_MESH_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

Bytes random_bytes(std::mt19937_64& random, std::size_t count) {
  Bytes bytes(count);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random());
  return bytes;
}

Bytes read_all(DiskImage& image) {
  Bytes bytes(static_cast<std::size_t>(image.size_bytes()));
  if (auto got = image.read(0, bytes); !got) throw std::runtime_error(got.error());
  return bytes;
}

}  // namespace node_mesh::test
