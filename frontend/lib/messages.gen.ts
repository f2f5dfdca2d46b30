// Generated from feature_repo/schemas/openapi.json by `npm run generate`. Do not edit.

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * Alert
         * @description One alert. Identity: (rule, symbol, window_start). `ts_event` is the end of the window.
         */
        Alert: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Rule */
            rule: string;
            /**
             * Severity
             * @enum {string}
             */
            severity: "info" | "warning" | "critical";
            /** Window Start */
            window_start: number;
            /**
             * State
             * @enum {string}
             */
            state: "firing" | "resolved";
            /** Value */
            value: number | null;
            /** Threshold */
            threshold: number | null;
            /** Summary */
            summary: string;
        };
        /**
         * Bar
         * @description OHLCV of one interval, labelled by its close (exclusive). Identity: (symbol, interval_s, close_time, created).
         *
         *     `ts_event` equals `close_time`. Dense: a second without trades carries the close with volume 0.
         *     It holds the trades of [open_time, close_time). `taker_buy_volume` is null where the source does not
         *     tell (a kline without it).
         */
        Bar: {
            /**
             * Book Valid
             * @default false
             */
            book_valid: boolean;
            /**
             * Bid Price
             * @default null
             */
            bid_price: number | null;
            /**
             * Bid Quantity
             * @default null
             */
            bid_quantity: number | null;
            /**
             * Ask Price
             * @default null
             */
            ask_price: number | null;
            /**
             * Ask Quantity
             * @default null
             */
            ask_quantity: number | null;
            /**
             * Bid Quantity 5
             * @default null
             */
            bid_quantity_5: number | null;
            /**
             * Ask Quantity 5
             * @default null
             */
            ask_quantity_5: number | null;
            /**
             * Bid Quantity 10
             * @default null
             */
            bid_quantity_10: number | null;
            /**
             * Ask Quantity 10
             * @default null
             */
            ask_quantity_10: number | null;
            /**
             * Bid Quantity 20
             * @default null
             */
            bid_quantity_20: number | null;
            /**
             * Ask Quantity 20
             * @default null
             */
            ask_quantity_20: number | null;
            /**
             * Bid Depth 10Bps
             * @default null
             */
            bid_depth_10bps: number | null;
            /**
             * Ask Depth 10Bps
             * @default null
             */
            ask_depth_10bps: number | null;
            /**
             * Bid Depth 25Bps
             * @default null
             */
            bid_depth_25bps: number | null;
            /**
             * Ask Depth 25Bps
             * @default null
             */
            ask_depth_25bps: number | null;
            /**
             * Order Flow Imbalance
             * @default null
             */
            order_flow_imbalance: number | null;
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /**
             * Interval S
             * @enum {integer}
             */
            interval_s: 1 | 60;
            /** Open Time */
            open_time: number;
            /** Close Time */
            close_time: number;
            /** Open */
            open: number;
            /** High */
            high: number;
            /** Low */
            low: number;
            /** Close */
            close: number;
            /** Volume */
            volume: number;
            /** Quote Volume */
            quote_volume: number;
            /** Vwap */
            vwap: number;
            /** Trades */
            trades: number;
            /** Taker Buy Volume */
            taker_buy_volume: number | null;
            /**
             * First Trade Id
             * @default null
             */
            first_trade_id: number | null;
            /**
             * Last Trade Id
             * @default null
             */
            last_trade_id: number | null;
            /** Created */
            created: number;
            /**
             * Provenance
             * @default live
             * @enum {string}
             */
            provenance: "live" | "backfill" | "reconcile";
        };
        /**
         * DeadLetter
         * @description A message that could not be used, kept exactly as it came with the reason.
         */
        DeadLetter: {
            /** Ts Init */
            ts_init: number;
            /** Component */
            component: string;
            /** Reason */
            reason: string;
            /** Detail */
            detail: string;
            /** Topic */
            topic: string | null;
            /** Symbol */
            symbol: string | null;
            /**
             * Payload
             * Format: base64url
             */
            payload: string;
        };
        /**
         * FeatureRow
         * @description Every feature of one symbol at one second's close. Identity: (symbol, ts_event, created).
         *
         *     `values` has every name of `FEATURES`; null where it cannot be known, with the reason in `reasons`.
         *     `price` is the bar's close. `created` is when the row became known, deterministic.
         */
        FeatureRow: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Created */
            created: number;
            /**
             * Provenance
             * @default live
             * @enum {string}
             */
            provenance: "live" | "backfill" | "reconcile";
            /** Feature Set */
            feature_set: string;
            /** Price */
            price: number;
            /** Values */
            values: {
                [key: string]: number | null;
            };
            /** Reasons */
            reasons: {
                [key: string]: string;
            };
        };
        /**
         * FollowedSymbol
         * @description Whether an instrument is followed from now on. Identity: symbol; the last word counts.
         */
        FollowedSymbol: {
            /** Symbol */
            symbol: string;
            /** Ts Init */
            ts_init: number;
            /** Followed */
            followed: boolean;
        };
        /**
         * LiveSnapshot
         * @description The first message of `/live`: enough to draw the page. Bars ascending by close, one a second.
         */
        LiveSnapshot: {
            /**
             * Type
             * @default snapshot
             * @constant
             */
            type: "snapshot";
            /** Sequences */
            sequences: {
                [key: string]: number;
            };
            /** Bars */
            bars: components["schemas"]["Bar"][];
            /** Books */
            books: components["schemas"]["OrderBook"][];
            features: components["schemas"]["FeatureRow"] | null;
            prediction: components["schemas"]["Prediction"] | null;
            status: components["schemas"]["LiveStatus"];
            market: components["schemas"]["Market"];
        };
        /**
         * LiveStatus
         * @description The service's own word about the state of the market data, once a second on `/live`.
         */
        LiveStatus: {
            /** Ts */
            ts: number;
            /** Source */
            source: ("live" | "recording" | "simulated") | null;
            /** Session */
            session: string | null;
            /** Symbol */
            symbol: string;
            /** Last Event Age Ms */
            last_event_age_ms: number | null;
            /** Feature Age Ms */
            feature_age_ms: number | null;
            /** Tier */
            tier: number;
            /** Model Version */
            model_version: string | null;
            /** Feature Ages Ms */
            feature_ages_ms: {
                [key: string]: number | null;
            };
        };
        /**
         * LiveUpdate
         * @description One change on `/live`. `sequence` is the Kafka offset of the channel's topic (status: a counter; market, which
         *     is of all symbols: the sum over the topic's partitions).
         *
         *     A jump means that the reader was too slow and was moved to the newest; it need not ask again.
         */
        LiveUpdate: {
            /**
             * Type
             * @enum {string}
             */
            type: "bar" | "book" | "features" | "prediction" | "status" | "market";
            /** Sequence */
            sequence: number;
            /** Data */
            data: components["schemas"]["Bar"] | components["schemas"]["OrderBook"] | components["schemas"]["FeatureRow"] | components["schemas"]["Prediction"] | components["schemas"]["LiveStatus"] | components["schemas"]["Market"];
        };
        /**
         * Market
         * @description Every followed symbol's newest summary, by symbol, as known at `ts`. `source` is null where they differ.
         */
        Market: {
            /** Ts */
            ts: number;
            /** Source */
            source: ("live" | "recording" | "simulated") | null;
            /** Summaries */
            summaries: components["schemas"]["MarketSummary"][];
            /** Movers */
            movers: components["schemas"]["Movers"][];
        };
        /**
         * MarketSummary
         * @description One symbol at one second's close, for a table of many. Identity: (symbol, ts_event, created).
         *
         *     `average_1m` is the mean of the last 60 second closes; volatilities are the feature row's, per square-root
         *     minute. A `change_*` is price / the close so long before − 1; for 1 h and 24 h that of the last whole minute
         *     closed by then. `move_10s` is the change from that close of the last ten seconds which lies furthest from the
         *     price, `moved` whether it exceeds 2 %; `alert_since` is the `window_start` of the alert firing for it.
         *     What cannot be known is null with its reason.
         */
        MarketSummary: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Created */
            created: number;
            /**
             * Provenance
             * @default live
             * @enum {string}
             */
            provenance: "live" | "backfill" | "reconcile";
            /** Price */
            price: number;
            /** Average 1M */
            average_1m: number | null;
            /** Volatility 1M */
            volatility_1m: number | null;
            /** Volatility 5M */
            volatility_5m: number | null;
            /** Change 10S */
            change_10s: number | null;
            /** Change 1M */
            change_1m: number | null;
            /** Change 1H */
            change_1h: number | null;
            /** Change 24H */
            change_24h: number | null;
            /** Move 10S */
            move_10s: number | null;
            /** Moved */
            moved: boolean | null;
            /** Alert Since */
            alert_since: number | null;
            /** Volume 1M */
            volume_1m: number | null;
            /** Quote Volume 1M */
            quote_volume_1m: number | null;
            /** Reasons */
            reasons: {
                [key: string]: string;
            };
        };
        /**
         * MissingTrades
         * @description The trades that the raw history lacks and that are still to be fetched. Identity: symbol; the last word counts.
         *
         *     Ids `first_ids[i]` to `last_ids[i]`, both included, ascending; empty: none. `ts_event` is when it was said.
         */
        MissingTrades: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** First Ids */
            first_ids: number[];
            /** Last Ids */
            last_ids: number[];
        };
        /**
         * Movers
         * @description The symbols that rose and fell most over one window, at most five each, the greatest change first.
         */
        Movers: {
            /**
             * Window
             * @enum {string}
             */
            window: "10s" | "1m" | "1h" | "24h";
            /** Up */
            up: string[];
            /** Down */
            down: string[];
        };
        /**
         * Observation
         * @description One value of a slow series as a provider told it. Identity: (symbol, series, instrument, ts_event, created).
         *
         *     `symbol` is a perpetual contract's id, or `MARKET`; `instrument` the provider's own name of what it told, such as
         *     `SPY`. `ts_event` is the time that the value describes, `created` when it became known: `ts_init`, or of a
         *     backfilled one `ts_event` + the series' declared lag. `value` in the series' unit. `stale`: said again because
         *     nothing newer was to be had; its value and `ts_event` are those of the last good one.
         */
        Observation: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Series */
            series: string;
            /** Provider */
            provider: string;
            /** Instrument */
            instrument: string;
            /** Created */
            created: number;
            /**
             * Provenance
             * @default live
             * @enum {string}
             */
            provenance: "live" | "backfill" | "reconcile";
            /** Value */
            value: number;
            /**
             * Stale
             * @default false
             */
            stale: boolean;
        };
        /**
         * OrderBook
         * @description Top 20 levels, cumulative depth, and 1-bp bins to ±30 bps around `mid_price`, from the full local book.
         *
         *     `bid_bins[i]` is the quantity between i and i + 1 bps below the mid price; null where the local
         *     book does not reach that far. Identity: (symbol, last_update_id, session).
         */
        OrderBook: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Last Update Id */
            last_update_id: number;
            /** Mid Price */
            mid_price: number;
            bids: components["schemas"]["PriceLevels"];
            asks: components["schemas"]["PriceLevels"];
            /** Bid Depth 5Bps */
            bid_depth_5bps: number | null;
            /** Ask Depth 5Bps */
            ask_depth_5bps: number | null;
            /** Bid Depth 10Bps */
            bid_depth_10bps: number | null;
            /** Ask Depth 10Bps */
            ask_depth_10bps: number | null;
            /** Bid Depth 25Bps */
            bid_depth_25bps: number | null;
            /** Ask Depth 25Bps */
            ask_depth_25bps: number | null;
            /** Bid Bins */
            bid_bins: (number | null)[];
            /** Ask Bins */
            ask_bins: (number | null)[];
        };
        /**
         * PredictRequest
         * @description What `POST /predict` takes: a symbol, or explicit fields beside it that override the newest row.
         *
         *     `timestamp` is the as-of time, integer nanoseconds UTC. `vwap` and `price` in quote currency,
         *     `volatility` per square-root minute, `imbalance` in [−1, 1], `momentum` log returns by window.
         */
        PredictRequest: {
            /** Symbol */
            symbol: string;
            /**
             * Timestamp
             * @default null
             */
            timestamp: number | null;
            /**
             * Price
             * @default null
             */
            price: number | null;
            /**
             * Vwap
             * @default null
             */
            vwap: number | null;
            /**
             * Volatility
             * @default null
             */
            volatility: number | null;
            /**
             * Imbalance
             * @default null
             */
            imbalance: number | null;
            /**
             * Momentum
             * @default null
             */
            momentum: {
                [key: string]: number;
            } | null;
        };
        /**
         * Prediction
         * @description One answer of the model. Identity: (model_version, symbol, ts_event).
         *
         *     `ts_event` is the as-of second, `created` the feature row's. Volatilities are realised volatility
         *     per square-root minute over the next h minutes (`definitions`: RV_h), not annualised. At tier 5
         *     everything forecast is null and `reasons` says why. `nowcast` is true between whole minutes.
         *     `row_hash` and `sequence_hash` (`feature_repo.proof`) name the bits of the row and of the model's input that the
         *     published answer was made from; null where there was none. `should_trade` and `expected_edge_bps` are of a trade of
         *     one minute, those with `15m` of one of 15 minutes; that edge is null where the model gives none.
         */
        Prediction: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Created */
            created: number;
            /** Model */
            model: string;
            /** Model Version */
            model_version: string;
            /** Feature Set */
            feature_set: string;
            /** Horizon S */
            horizon_s: number;
            /** Price */
            price: number | null;
            /** P Up */
            p_up: number | null;
            /** P Flat */
            p_flat: number | null;
            /** Signal */
            signal: number | null;
            /** Confidence */
            confidence: number | null;
            /** Volatility 5M */
            volatility_5m: number | null;
            /** Volatility 15M */
            volatility_15m: number | null;
            /** Volatility 60M */
            volatility_60m: number | null;
            /** Volatility 15M Low */
            volatility_15m_low: number | null;
            /** Volatility 15M High */
            volatility_15m_high: number | null;
            /** Spike Prob */
            spike_prob: number | null;
            /** Risk Score */
            risk_score: number | null;
            /** Anomaly Score */
            anomaly_score: number | null;
            /** Expected Edge Bps */
            expected_edge_bps: number | null;
            /** Cost Bps */
            cost_bps: number | null;
            /** Should Trade */
            should_trade: boolean;
            /** Nowcast */
            nowcast: boolean;
            /** Tier */
            tier: number;
            /** Reasons */
            reasons: string[];
            /**
             * Row Hash
             * @default null
             */
            row_hash: string | null;
            /**
             * Sequence Hash
             * @default null
             */
            sequence_hash: string | null;
            /**
             * Expected Edge 15M Bps
             * @default null
             */
            expected_edge_15m_bps: number | null;
            /**
             * Should Trade 15M
             * @default false
             */
            should_trade_15m: boolean;
        };
        /**
         * PriceLevels
         * @description One side of a book, best first: prices and quantities of equal length.
         */
        PriceLevels: {
            /** Prices */
            prices: number[];
            /** Quantities */
            quantities: number[];
        };
        /**
         * SecondClosed
         * @description Ingest's seal: the second [close − 1 s, close) is complete and has `n_trades` trades.
         *
         *     Identity: (symbol, close); the first one wins. `ts_event` equals `close`. The bar is closed when
         *     the seal and its n distinct trade ids are there. `prev_close` is the seal before, null at the
         *     first; a reader that does not stand at `prev_close` has met a hole or a reordering.
         */
        SecondClosed: {
            /**
             * Book Valid
             * @default false
             */
            book_valid: boolean;
            /**
             * Bid Price
             * @default null
             */
            bid_price: number | null;
            /**
             * Bid Quantity
             * @default null
             */
            bid_quantity: number | null;
            /**
             * Ask Price
             * @default null
             */
            ask_price: number | null;
            /**
             * Ask Quantity
             * @default null
             */
            ask_quantity: number | null;
            /**
             * Bid Quantity 5
             * @default null
             */
            bid_quantity_5: number | null;
            /**
             * Ask Quantity 5
             * @default null
             */
            ask_quantity_5: number | null;
            /**
             * Bid Quantity 10
             * @default null
             */
            bid_quantity_10: number | null;
            /**
             * Ask Quantity 10
             * @default null
             */
            ask_quantity_10: number | null;
            /**
             * Bid Quantity 20
             * @default null
             */
            bid_quantity_20: number | null;
            /**
             * Ask Quantity 20
             * @default null
             */
            ask_quantity_20: number | null;
            /**
             * Bid Depth 10Bps
             * @default null
             */
            bid_depth_10bps: number | null;
            /**
             * Ask Depth 10Bps
             * @default null
             */
            ask_depth_10bps: number | null;
            /**
             * Bid Depth 25Bps
             * @default null
             */
            bid_depth_25bps: number | null;
            /**
             * Ask Depth 25Bps
             * @default null
             */
            ask_depth_25bps: number | null;
            /**
             * Order Flow Imbalance
             * @default null
             */
            order_flow_imbalance: number | null;
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Close */
            close: number;
            /** Prev Close */
            prev_close: number | null;
            /** N Trades */
            n_trades: number;
            /** First Trade Id */
            first_trade_id: number | null;
            /** Last Trade Id */
            last_trade_id: number | null;
        };
        /**
         * SymbolList
         * @description What `GET /symbols` answers: the followed instruments, the settings' first.
         */
        SymbolList: {
            /** Symbols */
            symbols: components["schemas"]["SymbolState"][];
        };
        /**
         * SymbolState
         * @description One followed instrument as a service sees it. `starting`: no row yet; `stale`: the row is over a minute old.
         */
        SymbolState: {
            /** Symbol */
            symbol: string;
            /** Base */
            base: string;
            /**
             * State
             * @enum {string}
             */
            state: "starting" | "ready" | "stale";
            /** Tier */
            tier: number;
            /** Feature Age S */
            feature_age_s: number | null;
            /** Source */
            source: ("live" | "recording" | "simulated") | null;
            /** Session */
            session: string | null;
        };
        /**
         * Trade
         * @description One trade. Identity: (symbol, trade_id). `ts_event` is the venue's trade time.
         */
        Trade: {
            /** Symbol */
            symbol: string;
            /** Ts Event */
            ts_event: number;
            /** Ts Init */
            ts_init: number;
            /**
             * Source
             * @enum {string}
             */
            source: "live" | "recording" | "simulated";
            /** Session */
            session: string;
            /** Trade Id */
            trade_id: number;
            /** Price */
            price: number;
            /** Quantity */
            quantity: number;
            /** Buyer Is Maker */
            buyer_is_maker: boolean;
            /**
             * Late
             * @default false
             */
            late: boolean;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
