// Handles that programs hold: a destroyed or invented one is refused, never followed.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

namespace cusim {

template <class T> class Handles {
  public:
    void* add(std::shared_ptr<T> object) {
        std::lock_guard guard(mutex_);
        void* handle = object.get();
        live_.emplace(handle, std::move(object));
        return handle;
    }

    // Null for what is no handle.
    std::shared_ptr<T> find(const void* handle) const {
        std::lock_guard guard(mutex_);
        const auto found = live_.find(handle);
        return found == live_.end() ? nullptr : found->second;
    }

    std::shared_ptr<T> remove(const void* handle) {
        std::lock_guard guard(mutex_);
        const auto found = live_.find(handle);
        if (found == live_.end()) return nullptr;
        auto object = std::move(found->second);
        live_.erase(found);
        return object;
    }

  private:
    mutable std::mutex mutex_;
    std::unordered_map<const void*, std::shared_ptr<T>> live_;
};

// One table a kind, never destroyed: programs use handles while the process ends.
template <class T> Handles<T>& handles() {
    static auto* table = new Handles<T>;
    return *table;
}

}  // namespace cusim
