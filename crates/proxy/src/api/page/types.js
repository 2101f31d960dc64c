// What the sidecar answers, as the script reads it. A member that is not there counts as null.

/**
 * @typedef {{at: string, status: number | null, text: string}} Refusal
 * @typedef {{started: number, succeeded: number, failed: number, unknown: number, moved: number}} JobCounts
 *
 * @typedef {object} Account
 * @property {string} email
 * @property {string} alias
 * @property {number} maxJobs
 * @property {number} inFlight
 * @property {number} held
 * @property {number} uncertain
 * @property {number} foreignJobs
 * @property {number} available
 * @property {string} state
 * @property {string | null} reason
 * @property {string | null} since
 * @property {string | null} until
 * @property {string | null} sessionExpiresAt
 * @property {Refusal | null} lastRefusal
 * @property {JobCounts | null} jobs
 * @property {number | null} nextFreeInMs
 *
 * @typedef {object} Lease
 * @property {string} leaseId
 * @property {string} email
 * @property {string} state
 * @property {string} kind
 * @property {string | null} taskId
 * @property {string | null} operation
 * @property {string | null} client
 * @property {string | null} requestId
 * @property {string} createdAt
 * @property {string | null} expiresAt
 *
 * @typedef {object} Waiter
 * @property {number} position
 * @property {string | null} operation
 * @property {string | null} email
 * @property {string} since
 * @property {string | null} deadline
 * @property {string | null} client
 *
 * @typedef {{email: string, alias: string, maxJobs?: number, from?: number, to?: number}} ListedAccount
 *
 * @typedef {object} SidecarEvent
 * @property {number} id
 * @property {string} at
 * @property {string} type
 * @property {string} message
 * @property {string} [email]
 * @property {string} [to]
 * @property {string} [result]
 * @property {string} [operation]
 * @property {string | null} [taskId]
 * @property {number} [durationMs]
 * @property {string | null} [client]
 * @property {string} [requestId]
 * @property {ListedAccount[]} [added]
 * @property {number} [addedCount]
 * @property {ListedAccount[]} [removed]
 * @property {number} [removedCount]
 * @property {ListedAccount[]} [changed]
 * @property {number} [changedCount]
 *
 * @typedef {{at: string, inFlight: number, max: number, waiting: number}} Point
 *
 * @typedef {object} Status
 * @property {string} version
 * @property {string} instance
 * @property {string} upSince
 * @property {boolean} ready
 * @property {string[]} reasons
 * @property {string} role
 * @property {{inFlight: number, max: number}} slots
 * @property {{count: number, oldestSince: string | null}} waiting
 * @property {{fetchedAt: string | null, error: string | null}} list
 * @property {{sentAt: string | null, error: string | null} | null} round
 * @property {{isReachable: boolean}} upstream
 * @property {Account[]} accounts
 * @property {Lease[]} leases
 * @property {Waiter[]} waiters
 * @property {SidecarEvent[]} events
 * @property {Point[]} history
 * @property {Record<string, number>} medianJobMs
 * @property {{isSafe: boolean, because: string[]}} restart
 *
 * @typedef {object} Job
 * @property {string} requestId
 * @property {string | null} client
 * @property {string} operation
 * @property {string | null} email
 * @property {string | null} taskId
 * @property {string} outcome
 * @property {boolean} isDelivered
 * @property {string} at
 * @property {string | null} result
 *
 * @typedef {{status: number, body: any, etag: string | null, access: string | null}} Answer
 */
