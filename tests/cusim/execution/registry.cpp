#include "registry.h"

#include <unordered_map>

#include "../driver/fault.h"

namespace cusim {

// Never destroyed: a thread of the program may still launch while the process ends.
static std::unordered_map<std::string, Kernel>& kernels() {
    static auto* table = new std::unordered_map<std::string, Kernel>;
    return *table;
}

void add_kernel(Kernel kernel) {
    const std::string name = kernel.name;
    const char* file = kernel.library->file;
    if (!kernels().emplace(name, std::move(kernel)).second) {
        die("kernel %s is defined twice, the second time in %s", name.c_str(), file);
    }
}

const Kernel* find_kernel(const std::string& name) {
    const auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

}  // namespace cusim
