/**
 * What this browser keeps: the key, the conversations, every message, the people.
 *
 * It is one IndexedDB database of this relay's origin, shared by all tabs. What is said to be
 * kept is on disk: transactions that write are strict about it.
 *
 * | store           | key      | holds                                                        |
 * |-----------------|----------|--------------------------------------------------------------|
 * | `self`          | a name   | `identity`, `relay` (its key as first seen), `session`       |
 * | `messages`      | `id`     | see records.js                                               |
 * | `conversations` | `id`     | see records.js                                               |
 * | `peers`         | `id`     | a contact's name, the name last claimed, whether ignored     |
 */

const NAME = "agora-chat";
const VERSION = 1;
const STORES = ["self", "messages", "conversations", "peers"];

export class Store {
  #db;

  constructor(db) {
    this.#db = db;
    // Another tab deletes everything: let go, so that it can.
    db.onversionchange = () => db.close();
  }

  /** Open the database, made now if there is none. */
  static async open() {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => create(request.result);
    return new Store(await answer(request));
  }

  /** Delete the database with all that is in it. */
  static async erase() {
    await answer(indexedDB.deleteDatabase(NAME));
  }

  close() {
    this.#db.close();
  }

  /** Return the record of this key, undefined where there is none. */
  get(store, key) {
    return answer(this.#db.transaction(store).objectStore(store).get(key));
  }

  /** Return all records of a store. */
  all(store) {
    return answer(this.#db.transaction(store).objectStore(store).getAll());
  }

  /**
   * Change several records at once, or none.
   *
   * @param {function} change Gets `{get, put, remove, removeAll}`. It may wait for these and for
   *   nothing else, or the transaction ends before it.
   * @returns What *change* returned, when it is on disk.
   */
  async write(change) {
    const transaction = this.#db.transaction(STORES, "readwrite", { durability: "strict" });
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? new DOMException("aborted", "AbortError"));
    });
    const of = (store) => transaction.objectStore(store);
    const hands = {
      get: (store, key) => answer(of(store).get(key)),
      put: (store, record, key) => answer(of(store).put(record, key)),
      remove: (store, key) => answer(of(store).delete(key)),
      removeAll: (store, index, range) => removeAll(of(store).index(index), range),
    };
    try {
      const result = await change(hands);
      await done;
      return result;
    } catch (error) {
      done.catch(() => {}); // told by what is thrown here
      if (transaction.error === null) abort(transaction);
      throw error;
    }
  }

  /**
   * Return the last messages of a conversation, oldest first.
   *
   * @param {number} [before] Only those with a smaller `order`.
   */
  page(conversation, limit, before = Infinity) {
    const range = IDBKeyRange.bound([conversation, -Infinity], [conversation, before], false, true);
    const index = this.#db.transaction("messages").objectStore("messages").index("conversation");
    return collect(index.openCursor(range, "prev"), limit);
  }

  /** Return every message that is on its way, oldest first. */
  unsent() {
    return answer(this.#db.transaction("messages").objectStore("messages").index("unsent").getAll());
  }
}

/** The range of all messages of a conversation, for `removeAll`. */
export const wholeOf = (conversation) =>
  IDBKeyRange.bound([conversation, -Infinity], [conversation, Infinity]);

function create(db) {
  db.createObjectStore("self");
  db.createObjectStore("conversations", { keyPath: "id" });
  db.createObjectStore("peers", { keyPath: "id" });
  const messages = db.createObjectStore("messages", { keyPath: "id" });
  messages.createIndex("conversation", ["conversation", "order"]);
  // Only what is on its way has the member, so the index is as small as that.
  messages.createIndex("unsent", "unsent");
}

function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function collect(request, limit) {
  const found = [];
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (cursor !== null) found.unshift(cursor.value);
      if (cursor === null || found.length === limit) resolve(found);
      else cursor.continue();
    };
  });
}

function removeAll(index, range) {
  const request = index.openCursor(range);
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (cursor === null) return resolve();
      cursor.delete();
      cursor.continue();
    };
  });
}

function abort(transaction) {
  try {
    transaction.abort();
  } catch {
    // it had ended already
  }
}
